import { expect, test } from "bun:test";
import fc from "fast-check";
import { encodeEvent } from "./encode.ts";
import type { RecordedEvent } from "./events.ts";
import { Utf8Writer } from "./utf8-writer.ts";

const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
console.log(`encode.fuzz seed ${seed}`);
const text = fc.string({ unit: "binary", maxLength: 40 });
const count = fc.nat();
const digest = fc.constant(`sha256:${"0a".repeat(32)}`);
const optional = { requiredKeys: [] as never[], noNullPrototype: true };
const rules = fc.array(fc.record({ id: text, message: text }), { maxLength: 3 });
const values = fc.array(fc.option(text, { nil: null }), { maxLength: 4 });

/** Keys in the order in which `Session` and `ResultCapture` write them: that order is the recording's. */
const intent = fc
  .tuple(
    fc.record({ at: count, judgedAt: count, command: count }),
    fc.tuple(fc.record({ text }), fc.record({ standsFor: fc.array(text, { minLength: 1, maxLength: 2 }) }, optional)),
    fc.record({ params: values, digest, analysis: fc.option(count, { nil: null }), novel: fc.boolean() }),
    fc.record({
      verdict: fc.constantFrom("allow", "deny", "mask", "approve"),
      rules,
      masks: fc.array(fc.record({ column: text, with: fc.constantFrom("redact", "null", "partial", "hash") })),
      diagnostics: fc.constantFrom("full", "canonical"),
    }),
    fc.record({ approval: fc.record({ from: fc.array(text), count, ttl: fc.constant("15m") }) }, optional),
    fc.record({ revision: digest, forwarded: fc.boolean() }),
  )
  .map(([when, [own, others], said, decided, approval, rest]) => {
    const { at, judgedAt, command } = when;
    return {
      type: "intent",
      at,
      judgedAt,
      command,
      via: "query",
      ...own,
      ...others,
      ...said,
      ...decided,
      ...approval,
      ...rest,
    };
  });
const column = fc.record({ name: text, table: count, attnum: count, type: count, format: fc.constantFrom(0, 1) });
const rows = fc
  .tuple(count, fc.record({ columns: fc.array(column, { maxLength: 3 }) }, optional), fc.array(values))
  .map(([command, columns, shown]) => ({ type: "rows", command, ...columns, rows: shown }));
const result = fc
  .tuple(
    fc.record({ at: count, command: count, tag: text, rows: count, bytes: count }),
    fc.record({ unrecorded: fc.record({ rows: count, bytes: count, digest }) }, optional),
    fc.record({ error: fc.record({ C: text, M: text }) }, optional),
  )
  .map(([base, unrecorded, error]) => ({ type: "result", ...base, ...unrecorded, ...error }));
const outcome = fc
  .tuple(
    fc.record({ at: count, command: count, status: fc.constantFrom("ok", "error", "denied", "lost") }),
    fc.record({ sqlstate: text }, optional),
    count,
  )
  .map(([base, sqlstate, durationMs]) => ({ type: "outcome", ...base, ...sqlstate, durationMs }));
const notice = fc.record({ type: fc.constant("notice"), at: count, fields: fc.dictionary(text, text) });

test("every event is written as JSON.stringify writes it, a second time too, whatever was written before it", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(intent, rows, result, outcome, notice), { minLength: 1, maxLength: 20 }),
      (events) => {
        const writer = new Utf8Writer();
        for (const event of [...events, ...events]) {
          const start = writer.length;
          encodeEvent(writer, event as RecordedEvent);
          expect(writer.written(start).toString()).toBe(JSON.stringify(event));
        }
        const all = [...events, ...events].map((event) => JSON.stringify(event)).join("");
        expect(writer.written().toString()).toBe(all);
      },
    ),
    { seed, numRuns: 500 },
  );
});

test("a number is written whatever it is, be it the first of its writer", () => {
  for (const value of [-1, 0, 1, 0.5, 2 ** 40, -(2 ** 40)]) {
    expect(new Utf8Writer().number(value).written().toString()).toBe(JSON.stringify(value));
  }
});

test("numbers and strings of every size", () => {
  const numbers = [0, 9, 10, 99, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 1_764_340_000_000, 2 ** 53, -1, 0.5, -0, 1e21];
  const strings = [0, 1, 47, 48, 49, 5_000].flatMap((length) =>
    ["a", "é", "\u2028", "😀", '"', "\\", "\n", "\ud800"].map((last) => "x".repeat(length) + last),
  );
  const writer = new Utf8Writer();
  for (const value of numbers) writer.number(value).byte(0x2c);
  for (const value of strings) writer.string(value).byte(0x2c);
  const expected = [...numbers, ...strings].map((value) => `${JSON.stringify(value)},`).join("");
  expect(writer.written().toString()).toBe(expected);
});
