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

/** What is analysed in the place of all texts that it comes from; null: it cannot stand for them. */
type Canonical = AnalysedCommand | null;

export class AnalysisCache {
  /** By text, as it was sent: nothing that another text says is ever taken for it. */
  readonly #texts = new Map<string, AnalysedCommand>();
  /** By canonical form. */
  readonly #canonical = new Map<string, Canonical>();
  #length = 0;
  #context: NameContext | undefined;

  analyse(text: string, context: NameContext): AnalysedCommand {
    if (context !== this.#context) {
      this.#texts.clear();
      this.#canonical.clear();
      this.#length = 0;
      this.#context = context;
    }
    // A prepared statement's text comes again as it is, and has no literals to look for.
    const same = this.#texts.get(text);
    if (same) return same;
    const canonical = normalise(text);
    if (canonical !== undefined) {
      const known = this.#canonical.get(canonical) ?? this.#analyseCanonical(canonical, context);
      if (known) return known;
    }
    const analysed = analyse(text, context);
    this.#keep(this.#texts, text, analysed);
    return analysed;
  }

  #analyseCanonical(canonical: string, context: NameContext): Canonical {
    if (this.#canonical.has(canonical)) return null;
    const analysed = analyse(canonical, context);
    const stands =
      analysed.error === undefined &&
      // An error points into the text as it was written.
      analysed.unknownName === undefined &&
      analysed.command.statements.every(({ verb }) => normalisedVerbs.has(verb));
    const kept = stands ? analysed : null;
    this.#keep(this.#canonical, canonical, kept);
    return kept;
  }

  #keep<Kept extends Canonical>(entries: Map<string, Kept>, text: string, analysed: Kept): void {
    this.#length += lengthOf(text, analysed);
    entries.set(text, analysed);
    const others: Map<string, Canonical> = entries === this.#canonical ? this.#texts : this.#canonical;
    for (const one of [entries, others]) {
      for (const [oldest, entry] of one) {
        if (one.size <= limits.analysisCacheEntriesMax && this.#length <= limits.analysisCacheLengthMax) break;
        one.delete(oldest);
        this.#length -= lengthOf(oldest, entry);
      }
    }
  }
}
