/**
 * What is kept of one result as it goes by: rows as the caller sees them (after masks) in full up to a cap a command,
 * then counts and a digest of the rest. Rows beyond the cap are hashed, never held.
 */
import type { CryptoHasher } from "bun";
import type { RecordedColumn, RecordedEvent } from "../recording/events.ts";
import { Utf8Writer } from "../recording/utf8-writer.ts";
import { forEachField } from "./backend-decoder.ts";
import type { FieldDescription } from "./messages.ts";
import type { Frame } from "./reader.ts";

const rowsPerEvent = 500;

/** A value as recordings spell it: text as it is, binary (and what is not UTF-8) as \x hex. */
export function recordedValue(bytes: Buffer, format: 0 | 1, start = 0, end = bytes.length): string {
  return format === 1 ? `\\x${bytes.toString("hex", start, end)}` : bytes.toString("utf8", start, end);
}

/** @param masks the kind of mask of each column that has one */
export function recordedColumns(
  fields: readonly FieldDescription[],
  masks: readonly (string | undefined)[],
): RecordedColumn[] {
  return fields.map((field, index) => {
    const mask = masks[index];
    return {
      name: field.name,
      table: field.tableOid,
      attnum: field.attnum,
      type: field.typeOid,
      format: field.format,
      ...(mask !== undefined && { mask }),
    };
  });
}

/** Budget of one command, shared by its results. */
export class CaptureBudget {
  bytesLeft: number;
  constructor(bytes: number) {
    this.bytesLeft = bytes;
  }
}

export class ResultCapture {
  readonly #command: number;
  readonly #budget: CaptureBudget;
  readonly #record: (event: RecordedEvent) => void;
  #columns: readonly RecordedColumn[] | undefined;
  #fields: readonly FieldDescription[] = [];
  #pending: (readonly (string | null)[])[] = [];
  /** In one piece: a COPY may come in as many messages as it has bytes, or more. */
  #copy: Utf8Writer | undefined;
  #copyDirection: "in" | "out" = "out";
  #rows = 0;
  #bytes = 0;
  #beyondRows = 0;
  #beyondBytes = 0;
  #hasher: CryptoHasher | undefined;

  constructor(command: number, budget: CaptureBudget, record: (event: RecordedEvent) => void) {
    this.#command = command;
    this.#budget = budget;
    this.#record = record;
  }

  /** @param columns of the same fields, as `recordedColumns` gives them */
  describe(fields: readonly FieldDescription[], columns: readonly RecordedColumn[]): void {
    this.#fields = fields;
    this.#columns = columns;
  }

  /** @param row a DataRow as the caller gets it. */
  row(row: Frame): void {
    const size = row.payloadBytes;
    this.#rows += 1;
    this.#bytes += size;
    if (this.#hasher !== undefined || size > this.#budget.bytesLeft) {
      this.#beyond(row.payload);
      return;
    }
    this.#budget.bytesLeft -= size;
    const values: (string | null)[] = [];
    forEachField(row, (start, end, index) => {
      values.push(start < 0 ? null : recordedValue(row.bytes, this.#fields[index]?.format ?? 0, start, end));
    });
    this.#pending.push(values);
    if (this.#pending.length >= rowsPerEvent) this.#flushRows();
  }

  copy(direction: "in" | "out", data: Buffer): void {
    this.#bytes += data.length;
    if (direction === "out") this.#rows += 1;
    if (this.#hasher !== undefined || data.length > this.#budget.bytesLeft) {
      this.#beyond(data);
      return;
    }
    this.#budget.bytesLeft -= data.length;
    this.#copyDirection = direction;
    this.#copy ??= new Utf8Writer();
    this.#copy.raw(data);
  }

  #beyond(bytes: Buffer): void {
    this.#hasher ??= new Bun.CryptoHasher("sha256");
    this.#hasher.update(bytes);
    this.#beyondRows += 1;
    this.#beyondBytes += bytes.length;
  }

  #flushRows(): void {
    if (this.#pending.length === 0 && this.#columns === undefined) return;
    this.#record({
      type: "rows",
      command: this.#command,
      columns: this.#columns,
      rows: this.#pending,
    });
    this.#columns = undefined;
    this.#pending = [];
  }

  /** Writes what was kept and the result's own event. */
  finish(tag: string, error?: Readonly<Record<string, string>>): void {
    this.#flushRows();
    if (this.#copy !== undefined) {
      const bytes = this.#copy.written();
      const text = bytes.toString("utf8");
      const data = Buffer.from(text, "utf8").equals(bytes) ? text : `\\x${bytes.toString("hex")}`;
      this.#record({ type: "copy", command: this.#command, direction: this.#copyDirection, data });
    }
    this.#record({
      type: "result",
      at: Date.now(),
      command: this.#command,
      tag,
      rows: this.#rows,
      bytes: this.#bytes,
      unrecorded: this.#hasher && {
        rows: this.#beyondRows,
        bytes: this.#beyondBytes,
        digest: `sha256:${this.#hasher.digest("hex")}`,
      },
      error,
    });
  }
}
