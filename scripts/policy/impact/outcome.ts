/** What came out of a comparison: what every format shows of it, and what the gate says of it. */
import type { ChangeKind } from "./changes.ts";
import type { Tally } from "./tally.ts";

export interface Impact {
  readonly base: { readonly name: string; readonly digest: string };
  readonly head: { readonly name: string; readonly digest: string };
  /** RFC 3339, or undefined for everything recorded. */
  readonly since: string | undefined;
  readonly tally: Tally;
  readonly elapsedMs: number;
}

export const exitCodes = {
  ok: 0,
  /** Nothing could be compared. */
  failed: 1,
  usage: 2,
  /** There are changes that `--fail-on` names. */
  gated: 3,
  /** `--fail-on` cannot answer: something was not read, not judged, or not certain. */
  unsure: 4,
} as const;

export interface Gate {
  readonly exitCode: 0 | 3 | 4;
  readonly reasons: readonly string[];
}

/** Why the answer may not be complete, one line each. */
export function doubts({ tally }: Impact): string[] {
  const found: string[] = [];
  if (tally.unreadableSessions > 0) found.push(`${tally.unreadableSessions} recordings or commands could not be read`);
  if (tally.drifted > 0)
    found.push(`${tally.drifted} decisions do not come again from the recording under their own revision`);
  if (tally.paramsCut > 0)
    found.push(
      `${tally.paramsCut} commands have parameters that a policy sees and the recording does not have in full`,
    );
  return found;
}

/** Changes that were asked for decide; without them, what could hide one does. */
export function gate(impact: Impact, failOn: readonly ChangeKind[]): Gate {
  const { tally } = impact;
  if (failOn.length === 0) return { exitCode: exitCodes.ok, reasons: [] };
  const gated = failOn.flatMap((kind) => {
    const of = tally.kinds[kind];
    return of ? `${of.commands} commands${of.sessions > 0 ? ` and ${of.sessions} sessions` : ""}: ${kind}` : [];
  });
  if (gated.length > 0) return { exitCode: exitCodes.gated, reasons: gated };
  const reasons = doubts(impact);
  if (tally.commands === 0) reasons.push("no recorded command was judged");
  for (const kind of failOn) {
    const count = tally.possible[kind];
    if (count) reasons.push(`${count} commands may be "${kind}": give --catalog to be certain`);
  }
  return { exitCode: reasons.length > 0 ? exitCodes.unsure : exitCodes.ok, reasons };
}
