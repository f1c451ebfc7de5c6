/**
 * Tells when files changed and then stayed as they are for a moment: written anew, renamed over, or behind a link that
 * was turned to another folder (as Kubernetes updates a ConfigMap). A folder's own events only make it faster; what
 * counts is what the files are when they are looked at, on any file system.
 */
import { type FSWatcher, watch } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { limits } from "../limits.ts";

export class FileWatch {
  readonly #files: readonly string[];
  readonly #changed: () => void;
  readonly #folders: FSWatcher[] = [];
  readonly #timer: Timer;
  /** As they were when their change was told last. */
  #known: string | undefined;
  #last: string | undefined;
  /** When they were first and last seen to change since then. */
  #changing: { readonly sinceMs: number; untilMs: number } | undefined;
  readonly #ready = Promise.withResolvers<void>();
  #looking = false;
  #again: Timer | undefined;

  /** @param changed is called when they settled, and must not throw. */
  constructor(files: readonly string[], changed: () => void) {
    this.#files = files;
    this.#changed = changed;
    for (const folder of new Set(files.map((file) => dirname(file)))) this.#watchFolder(folder);
    this.#timer = setInterval(() => void this.#look(), limits.policyLookMs);
    void this.#look();
  }

  /** Resolves once a later change is noticed. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  #watchFolder(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, () => void this.#look());
      watcher.on("error", () => watcher.close());
      this.#folders.push(watcher);
    } catch {
      // Too many watches, or no such folder: the timer looks.
    }
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const state = (await Promise.all(this.#files.map(describe))).join("\n");
    this.#looking = false;
    const now = performance.now();
    if (this.#known === undefined) {
      this.#known = this.#last = state;
      this.#ready.resolve();
      return;
    }
    if (state !== this.#last) {
      this.#last = state;
      this.#changing ??= { sinceMs: now, untilMs: now };
      this.#changing.untilMs = now;
    }
    if (this.#changing === undefined) return;
    const { sinceMs, untilMs } = this.#changing;
    if (now - untilMs < limits.policySettleMs && now - sinceMs < limits.policySettleMsMax) {
      clearTimeout(this.#again);
      this.#again = setTimeout(() => void this.#look(), limits.policySettleMs);
      return;
    }
    this.#changing = undefined;
    if (state === this.#known) return;
    this.#known = state;
    this.#changed();
  }

  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#again);
    for (const folder of this.#folders) folder.close();
  }
}

/** Another text whenever the content may be another; links are followed. */
async function describe(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
    return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
