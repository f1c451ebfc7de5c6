import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { RecordedEvent } from "../recording/events.ts";
import { encodeDataRow } from "./backend-encoder.ts";
import { CaptureBudget, ResultCapture } from "./capture.ts";
import { Frame } from "./reader.ts";
import { MessageWriter } from "./writer.ts";

function rowOf(text: string): Frame {
  const writer = new MessageWriter();
  encodeDataRow(writer, [Buffer.from(text)]);
  return new Frame(0x44, writer.take(), 5);
}
const captured = (bytes: number, capture: (into: ResultCapture) => void) => {
  const events: RecordedEvent[] = [];
  capture(new ResultCapture(1, new CaptureBudget(bytes), (event) => void events.push(event)));
  return events;
};

test("rows are recorded in full up to the budget; from one byte over on, as counts and a digest", () => {
  const rows = ["aaaa", "bbbb", "c"].map(rowOf);
  const twoRows = (rows[0]?.payloadBytes ?? 0) * 2;
  const of = (bytes: number) =>
    captured(bytes, (into) => {
      for (const row of rows) into.row(row);
      into.finish("SELECT 3");
    });
  const digest = (...beyond: (Frame | undefined)[]) =>
    `sha256:${createHash("sha256")
      .update(Buffer.concat(beyond.flatMap((row) => (row === undefined ? [] : [row.payload]))))
      .digest("hex")}`;
  const [kept, result] = of(twoRows);
  expect(kept).toMatchObject({ type: "rows", rows: [["aaaa"], ["bbbb"]] });
  expect(result).toMatchObject({ rows: 3, unrecorded: { rows: 1, digest: digest(rows[2]) } });
  const [less, other] = of(twoRows - 1);
  expect(less).toMatchObject({ type: "rows", rows: [["aaaa"]] });
  // What follows the first that is too large is not kept either, though it would fit: the digest is over all of it.
  expect(other).toMatchObject({ rows: 3, unrecorded: { rows: 2, digest: digest(rows[1], rows[2]) } });
});

test("the data of COPY counts on the same budget", () => {
  const events = captured(10, (into) => {
    into.copy("in", Buffer.from("1234567890"));
    into.copy("in", Buffer.from("x"));
    into.finish("COPY 1");
  });
  expect(events[0]).toMatchObject({ type: "copy", data: "1234567890" });
  expect(events[1]).toMatchObject({ type: "result", bytes: 11, unrecorded: { bytes: 1 } });
});

test("data in messages of no bytes, or of one, takes no more memory than its bytes", () => {
  const [nothing, one] = [Buffer.alloc(0), Buffer.from("x")];
  Bun.gc(true);
  const before = process.memoryUsage.rss();
  const events = captured(300_000, (into) => {
    for (let n = 0; n < 2_000_000; n++) into.copy("in", nothing);
    for (let n = 0; n < 300_000; n++) into.copy("in", one);
    expect(process.memoryUsage.rss() - before).toBeLessThan(100 * 1_024 * 1_024);
    into.finish("COPY 1");
  });
  expect(events[0]).toMatchObject({ type: "copy", data: "x".repeat(300_000) });
});
