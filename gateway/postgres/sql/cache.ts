/** Analyses by text, for one context of names. The same kind of text gives the same object, so that policy can key on it. */
import { limits } from "../../limits.ts";
import type { AnalysedCommand } from "../analysed.ts";
import { analyse } from "./analyse.ts";
import type { NameContext } from "./catalog.ts";
import { normalise, normalisedVerbs } from "./normalise.ts";

/** About what one name or column of an analysis takes in memory, in characters. */
const partLength = 150;

function lengthOf(text: string, analysed: AnalysedCommand | null): number {
  let parts = 0;
  for (const { relations, columns, functions, features } of analysed?.command.statements ?? []) {
    parts += 2 + relations.length + columns.length + functions.length + features.length;
  }
  for (const { outputColumns } of analysed?.statements ?? []) parts += outputColumns?.length ?? 0;
  return text.length + parts * partLength;
}

export class AnalysisCache {
  /** By text, canonical where it has such a form; null: that form cannot stand for the texts it comes from. */
  readonly #entries = new Map<string, AnalysedCommand | null>();
  #length = 0;
  #context: NameContext | undefined;

  analyse(text: string, context: NameContext): AnalysedCommand {
    if (context !== this.#context) {
      this.#entries.clear();
      this.#length = 0;
      this.#context = context;
    }
    // A prepared statement's text comes again as it is, and has no literals to look for.
    const same = this.#entries.get(text);
    if (same) return same;
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
    const analysed = analyse(text, context);
    this.#keep(text, analysed);
    return analysed;
  }

  #keep(text: string, analysed: AnalysedCommand | null): void {
    const before = this.#entries.get(text);
    if (before !== undefined) this.#length -= lengthOf(text, before);
    this.#length += lengthOf(text, analysed);
    this.#entries.set(text, analysed);
    for (const [oldest, entry] of this.#entries) {
      if (this.#entries.size <= limits.analysisCacheEntriesMax && this.#length <= limits.analysisCacheLengthMax) return;
      this.#entries.delete(oldest);
      this.#length -= lengthOf(oldest, entry);
    }
  }
}
