/** Analyses by text, for one context of names. The same text gives the same object, so that policy can key on it. */
import { limits } from "../../limits.ts";
import type { AnalysedCommand } from "../analysed.ts";
import { analyse } from "./analyse.ts";
import type { NameContext } from "./catalog.ts";

export class AnalysisCache {
  readonly #entries = new Map<string, AnalysedCommand>();
  #textLength = 0;
  #context: NameContext | undefined;

  analyse(text: string, context: NameContext): AnalysedCommand {
    if (context !== this.#context) {
      this.#entries.clear();
      this.#textLength = 0;
      this.#context = context;
    }
    const known = this.#entries.get(text);
    if (known !== undefined) return known;
    const analysed = analyse(text, context);
    this.#entries.set(text, analysed);
    this.#textLength += text.length;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= limits.analysisCacheEntriesMax && this.#textLength <= limits.analysisCacheTextBytesMax)
        break;
      this.#entries.delete(oldest);
      this.#textLength -= oldest.length;
    }
    return analysed;
  }
}
