/** Analyses by text, for one context of names. The same kind of text gives the same object, so that policy can key on it. */
import { limits } from "../../limits.ts";
import type { AnalysedCommand } from "../analysed.ts";
import { analyse } from "./analyse.ts";
import type { NameContext } from "./catalog.ts";
import { normalise, normalisedVerbs } from "./normalise.ts";

export class AnalysisCache {
  /** By text, canonical where it has such a form; null: that form cannot stand for the texts it comes from. */
  readonly #entries = new Map<string, AnalysedCommand | null>();
  #textLength = 0;
  #context: NameContext | undefined;

  analyse(text: string, context: NameContext): AnalysedCommand {
    if (context !== this.#context) {
      this.#entries.clear();
      this.#textLength = 0;
      this.#context = context;
    }
    const canonical = normalise(text);
    if (canonical !== undefined && canonical !== text) {
      const known = this.#entries.get(canonical);
      if (known) return known;
      if (known === undefined) {
        const analysed = analyse(canonical, context);
        const stands =
          analysed.error === undefined &&
          // An error points into the text as it was written.
          analysed.unknownName === undefined &&
          analysed.command.statements.every(({ verb }) => normalisedVerbs.has(verb));
        this.#keep(canonical, stands ? analysed : null);
        if (stands) return analysed;
      }
    }
    const known = this.#entries.get(text);
    if (known) return known;
    const analysed = analyse(text, context);
    this.#keep(text, analysed);
    return analysed;
  }

  #keep(text: string, analysed: AnalysedCommand | null): void {
    if (!this.#entries.has(text)) this.#textLength += text.length;
    this.#entries.set(text, analysed);
    for (const oldest of this.#entries.keys()) {
      if (
        this.#entries.size <= limits.analysisCacheEntriesMax &&
        this.#textLength <= limits.analysisCacheTextBytesMax
      ) {
        return;
      }
      this.#entries.delete(oldest);
      this.#textLength -= oldest.length;
    }
  }
}
