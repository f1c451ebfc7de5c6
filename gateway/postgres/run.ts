/**
 * One permitted command on its way through the target: its permit, what its results were predicted to be, the masks
 * that follow, and what is recorded of it.
 */
import { GatewayError } from "../errors.ts";
import { type Masker, maskerFor } from "../masking/mask.ts";
import type { MaskKind } from "../policy/decision.ts";
import { type Permit, requirePermit, type Session } from "../session/session.ts";
import type { AnalysedCommand, AnalysedStatement, SessionAnalyser } from "./analysed.ts";
import { decodeDataRow, decodeRowDescription } from "./backend-decoder.ts";
import { encodeDataRow } from "./backend-encoder.ts";
import { CaptureBudget, ResultCapture, recordedColumns } from "./capture.ts";
import type { Description, Descriptions } from "./descriptions.ts";
import { backendType, type FieldDescription, type NoticeFields } from "./messages.ts";
import { Frame } from "./reader.ts";
import { RowLimit } from "./row-limit.ts";
import type { MessageWriter } from "./writer.ts";

export interface RunOptions {
  readonly session: Session;
  readonly analyser: SessionAnalyser;
  readonly hashKey: Uint8Array;
  readonly rowBytesMax: number;
  readonly descriptions: Descriptions;
}

export class Run {
  readonly permit: Permit;
  readonly statements: readonly AnalysedStatement[];
  /** Nothing but its rows matters: see `AnalysedCommand`. */
  readonly plain: boolean;
  readonly #options: RunOptions;
  readonly #budget: CaptureBudget;
  #statement = 0;
  #capture: ResultCapture | undefined;
  #description: Description | undefined;
  #sqlstate: string | undefined;
  #finished = false;
  #copyingOut = false;
  /** How many there were when it was judged. */
  readonly #redefinitions: number;
  /** A result or an error of it came. */
  answered = false;
  /** Its COPY FROM STDIN statements whose data the client has not ended. */
  copiesIn: number;
  /** What policy says of how many rows its results may have, where it says something. */
  readonly limit: RowLimit | undefined;

  constructor(
    permit: Permit,
    { statements, plain }: Pick<AnalysedCommand, "statements" | "plain">,
    options: RunOptions,
  ) {
    requirePermit(permit);
    this.permit = permit;
    this.statements = statements;
    this.plain = plain;
    this.copiesIn = plain ? 0 : statements.filter(({ copy }) => copy?.direction === "in").length;
    this.#options = options;
    this.#redefinitions = options.analyser.redefinitions;
    this.#budget = new CaptureBudget(options.rowBytesMax);
    const { limit } = permit.decision.obligations ?? {};
    this.limit = limit && new RowLimit(limit);
  }

  /** Which statement of the command the target is at. */
  get statementIndex(): number {
    return this.#statement;
  }
  get masked(): boolean {
    return this.permit.decision.masks.length > 0;
  }
  get canonical(): boolean {
    return this.permit.decision.diagnostics === "canonical";
  }
  get #current(): AnalysedStatement | undefined {
    return this.statements[this.#statement];
  }

  /**
   * The target says what it will send. Held against the prediction: any labelled column that was not foreseen at that
   * place, and any foreseen one that is not there, ends the session before a row of it passes.
   */
  describe(frame: Frame): void {
    const { analyser, descriptions } = this.#options;
    const { analysis, decision } = this.permit;
    const statement = this.#current;
    this.#checkNames();
    const basis = { statement, analysis, decision, context: analyser.context };
    let description = descriptions.find(basis, frame);
    if (description === undefined) {
      description = this.#judge(decodeRowDescription(frame).fields);
      descriptions.keep(basis, frame, description);
    }
    this.#description = description;
    this.#startCapture().describe(description.fields, description.columns);
  }

  /**
   * Where the target waited for a lock it took names as they were when it had it. From here on it holds them: what it
   * computed of other columns than were judged could be any value.
   */
  #checkNames(): void {
    const { analyser } = this.#options;
    if (analyser.redefinitions === this.#redefinitions || analyser.labels.size === 0) return;
    const { statements } = this.permit.analysis;
    const relations = new Set(statements.flatMap((statement) => statement.relations.map(({ name }) => name)));
    if (relations.size === 0 || !analyser.isRedefined(this.#redefinitions, relations)) return;
    throw mismatch("another session redefined what it names before the target looked it up");
  }

  #judge(fields: readonly FieldDescription[]): Description {
    const { analyser, hashKey } = this.#options;
    const { analysis, decision } = this.permit;
    const masks = new Map(decision.masks.map((mask) => [mask.column, mask.with]));
    let predicted = this.#current?.outputColumns ?? null;
    if (predicted !== null && predicted.length !== fields.length) {
      // A policy that lets through what is not understood, as DDL before it in the same text, takes it as it comes.
      if (analysis.complete || this.masked) throw mismatch("another number of columns");
      predicted = null;
    }
    const maskers: (Masker | undefined)[] = [];
    const kinds: (MaskKind | undefined)[] = [];
    fields.forEach((field, index) => {
      const expected = predicted?.[index];
      const labels = field.tableOid === 0 ? undefined : analyser.labelsOf(field.tableOid, field.attnum);
      const expectedLabels = expected ? analyser.labelsOf(expected.oid, expected.attnum) : undefined;
      const same = expected !== undefined && expected.oid === field.tableOid && expected.attnum === field.attnum;
      if ((labels !== undefined || expectedLabels !== undefined) && !same && analysis.complete) {
        throw mismatch("a labelled column where none was expected");
      }
      const asked = expected?.column === undefined || expected.column === null ? undefined : masks.get(expected.column);
      const derived = asked !== undefined && analyser.isDerived(field.tableOid, field.attnum);
      const kind = derived && asked !== "null" ? "redact" : asked;
      if (kind !== undefined && !same) throw mismatch("another column in the place of a masked one");
      kinds.push(kind);
      const masker = kind && maskerFor(kind, field.typeOid, field.format, hashKey, field.modifier);
      maskers.push(derived && masker ? alike(masker) : masker);
    });
    const any = maskers.some((masker) => masker !== undefined);
    return { fields, maskers: any ? maskers : undefined, columns: recordedColumns(fields, kinds) };
  }

  #startCapture(): ResultCapture {
    this.#capture ??= new ResultCapture(this.permit.command, this.#budget, (event) =>
      this.#options.session.record(event),
    );
    return this.#capture;
  }

  /** One DataRow, masked where policy says so, on its way to the client. */
  row(writer: MessageWriter, frame: Frame): void {
    if (this.#description === undefined) throw mismatch("rows before their description");
    if (this.limit?.cuts() === true) return;
    const maskers = this.#description.maskers;
    if (maskers === undefined) {
      this.#startCapture().row(frame);
      writer.message(backendType.DataRow, frame.bytes, frame.start, frame.end);
      return;
    }
    const values = decodeDataRow(frame);
    if (values.length !== maskers.length) throw mismatch("a row of another width than described");
    const shown = values.map((value, index) => maskers[index]?.(value) ?? (maskers[index] ? null : value));
    const before = writer.length;
    encodeDataRow(writer, shown);
    this.#startCapture().row(new Frame(backendType.DataRow, writer.peek(before + 5)));
  }

  /** @param format of all its rows: 0 text, 1 binary */
  startCopyOut(format: 0 | 1): void {
    // Policy denies COPY of what it would mask; should one come this far all the same, it ends here.
    this.#checkNames();
    if (this.#copiesMasked()) throw mismatch("a COPY of masked columns");
    this.#copyingOut = true;
    this.limit?.startCopy(format, this.#current?.copy?.header === true);
  }

  /** Of the statement under way, others of the same text aside. */
  #copiesMasked(): boolean {
    const { analysis, decision } = this.permit;
    const statement = analysis.complete ? analysis.statements[this.#statement] : undefined;
    if (statement === undefined) return this.masked;
    const masked = decision.masks.map(({ column }) => column);
    return statement.columns.some(({ schema, table, column }) => masked.includes(`${schema}.${table}.${column}`));
  }

  /** @returns false where the row limit keeps it from the client. */
  copy(direction: "in" | "out", data: Buffer): boolean {
    if (direction === "out" && !this.#copyingOut) throw mismatch("rows of a COPY that did not begin");
    if (direction === "out" && this.limit?.cutsCopy(data) === true) return false;
    this.#startCapture().copy(direction, data);
    return true;
  }

  /** A statement of the command ended well. */
  complete(tag: string): AnalysedStatement | undefined {
    this.answered = true;
    this.#startCapture().finish(tag);
    this.#capture = undefined;
    this.#copyingOut = false;
    const ended = this.#current;
    if (this.statements.length > 1) {
      this.#statement += 1;
      this.#description = undefined;
    }
    return ended;
  }

  /** A portal stopped at its row limit; it goes on with the same description. */
  suspend(): void {
    this.#startCapture().finish("SUSPENDED");
    this.#capture = undefined;
    const description = this.#description;
    if (description) this.#startCapture().describe(description.fields, description.columns);
  }

  fail(fields: NoticeFields): void {
    this.answered = true;
    this.#sqlstate = fields.C ?? "XX000";
    this.#startCapture().finish("", fields);
    this.#capture = undefined;
  }

  /** It is not forwarded after all. */
  refuse(sqlstate: string): void {
    this.#sqlstate = sqlstate;
    this.finish();
  }

  finish(status?: "skipped" | "lost"): void {
    if (this.#finished) return;
    this.#finished = true;
    const failed = this.#sqlstate;
    const outcome = failed === "57014" ? "cancelled" : failed !== undefined ? "error" : (status ?? "ok");
    this.#options.session.finish(this.permit, outcome, failed);
  }
}

/** Of a computed value, whether it is NULL tells of what it was computed of. */
function alike(redact: Masker): Masker {
  const shown = redact(Buffer.alloc(0));
  return () => shown;
}

function mismatch(what: string): GatewayError {
  return new GatewayError("upstream.protocol", `the target's answer does not match what was judged: ${what}`, {
    hint: "Connect again; if it stays so, name each column plainly in the query.",
  });
}
