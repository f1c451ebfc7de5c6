/**
 * What a RowDescription was found to mean, kept for the next one that is the same. The same is: equal byte for byte, for
 * the same statement of the same analysis, under the same decision and the same names. Of each statement the latest
 * stays, for as long as its analysis does.
 */
import type { Masker } from "../masking/mask.ts";
import type { Decision } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { RecordedColumn } from "../recording/events.ts";
import type { AnalysedStatement } from "./analysed.ts";
import type { FieldDescription } from "./messages.ts";
import type { Frame } from "./reader.ts";

/** A result's columns as the target described them, held against the prediction. */
export interface Description {
  readonly fields: readonly FieldDescription[];
  /** One a column; undefined where none is masked. */
  readonly maskers: readonly (Masker | undefined)[] | undefined;
  readonly columns: readonly RecordedColumn[];
}

/** Everything but the message itself that a description's meaning depends on. */
export interface DescriptionBasis {
  /** Undefined: of a command that could not be analysed, which is never kept. */
  readonly statement: AnalysedStatement | undefined;
  readonly analysis: CommandAnalysis;
  readonly decision: Decision;
  readonly context: object;
}

interface Kept extends DescriptionBasis {
  readonly payload: Buffer;
  readonly description: Description;
}

/** Of one session: masks are made with its key. */
export class Descriptions {
  readonly #latest = new WeakMap<AnalysedStatement, Kept>();

  find(basis: DescriptionBasis, frame: Frame): Description | undefined {
    const kept = basis.statement && this.#latest.get(basis.statement);
    return kept !== undefined &&
      kept.analysis === basis.analysis &&
      kept.decision === basis.decision &&
      kept.context === basis.context &&
      isSame(kept.payload, frame)
      ? kept.description
      : undefined;
  }

  keep(basis: DescriptionBasis, frame: Frame, description: Description): void {
    if (basis.statement === undefined) return;
    this.#latest.set(basis.statement, { ...basis, payload: Buffer.from(frame.payload), description });
  }
}

function isSame(payload: Buffer, { bytes, start, end }: Frame): boolean {
  return payload.length === end - start && payload.compare(bytes, start, end) === 0;
}
