/** Recorded analyses by their text: sessions that ran the same statements share one object, and what is kept by it. */
import type { CommandAnalysis } from "../../../gateway/policy/input.ts";

const generationTextMax = 64 * 1_024 * 1_024;

/** Bounded by two generations: what was not met for the time of one is forgotten. */
export class KnownAnalyses {
  #recent = new Map<string, CommandAnalysis>();
  #older = new Map<string, CommandAnalysis>();
  #textLength = 0;

  /** @param text JSON of an analysis */
  parse(text: string): CommandAnalysis {
    const recent = this.#recent.get(text);
    if (recent !== undefined) return recent;
    // Frozen: policy keeps the key of its decisions by it.
    const analysis = this.#older.get(text) ?? (Object.freeze(JSON.parse(text)) as CommandAnalysis);
    if (this.#textLength + text.length > generationTextMax) {
      this.#older = this.#recent;
      this.#recent = new Map();
      this.#textLength = 0;
    }
    this.#recent.set(text, analysis);
    this.#textLength += text.length;
    return analysis;
  }
}
