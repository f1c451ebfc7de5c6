/**
 * Whether an identity's kind of command (its fingerprint) was run before on a target. The store remembers; a bounded
 * memory in front of it answers for the common case. Only what was permitted counts as seen.
 */
import { limits } from "../limits.ts";
import type { SessionStore } from "./dependencies.ts";

export class Novelty {
  readonly #store: SessionStore;
  /** Keys known as seen, oldest first. */
  readonly #seen = new Set<string>();

  constructor(store: SessionStore) {
    this.#store = store;
  }

  /** True when never seen. Answers at once when memory knows. */
  isNovel(identityKey: string, target: string, fingerprint: string): boolean | Promise<boolean> {
    const key = `${identityKey}\n${target}\n${fingerprint}`;
    if (this.#seen.has(key)) return false;
    return this.#ask(key, identityKey, target, fingerprint);
  }

  async #ask(key: string, identityKey: string, target: string, fingerprint: string): Promise<boolean> {
    const seen = await this.#store.fingerprintSeen(identityKey, target, fingerprint);
    if (seen) this.#remember(key);
    return !seen;
  }

  /** The command was permitted: the next of its kind is not novel. */
  async saw(identityKey: string, target: string, fingerprint: string): Promise<void> {
    const key = `${identityKey}\n${target}\n${fingerprint}`;
    if (this.#seen.has(key)) return;
    await this.#store.recordFingerprint(identityKey, target, fingerprint);
    this.#remember(key);
  }

  #remember(key: string): void {
    this.#seen.add(key);
    if (this.#seen.size <= limits.decisionCacheEntriesMax) return;
    const [oldest] = this.#seen;
    if (oldest !== undefined) this.#seen.delete(oldest);
  }
}
