/**
 * A bounded map from everything a decision was made of to the decision. Two generations instead of an order of use:
 * a hit in the recent one changes nothing, which keeps it cheap; what was not used for a generation is dropped.
 */
import type { Decision } from "./decision.ts";

export class DecisionCache {
  readonly #generationMax: number;
  #recent = new Map<string, Decision>();
  #older = new Map<string, Decision>();

  constructor(entriesMax: number) {
    this.#generationMax = Math.max(1, Math.floor(entriesMax / 2));
  }

  get size(): number {
    return this.#recent.size + this.#older.size;
  }

  get(key: string): Decision | undefined {
    const recent = this.#recent.get(key);
    if (recent !== undefined) return recent;
    const older = this.#older.get(key);
    if (older === undefined) return undefined;
    this.#older.delete(key);
    this.set(key, older);
    return older;
  }

  set(key: string, decision: Decision): void {
    if (this.#recent.size >= this.#generationMax) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(key, decision);
  }
}
