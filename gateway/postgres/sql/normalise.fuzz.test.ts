import { expect, test } from "bun:test";
import fc from "fast-check";
import { normalise } from "./normalise.ts";

const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
console.log(`normalise.fuzz seed ${seed}`);

/** The same in two regular expressions, which take five times as long. */
const plain = /^(?:[A-Za-z0-9_ \t\r\n.,*()<>=;]|'[^'\\\ud800-\udfff]*')+$/;
const literals = /'[^']*'|([=<>*]+)([ \t\r\n]*)('[^']*'|[0-9]{1,9}(?![A-Za-z0-9_.]))/g;
const comparisons = new Set(["=", "<", ">", "<=", ">=", "<>"]);

function byExpressions(sql: string): string | undefined {
  if (sql.length > 16_384 || sql.includes("''") || sql.includes("\u0000") || !plain.test(sql)) return undefined;
  return sql.replace(literals, (whole, operator: string | undefined, space: string, literal: string) => {
    if (operator === undefined || !comparisons.has(operator)) return whole;
    return `${operator}${space}${literal.startsWith("'") ? "''" : "0"}`;
  });
}

const piece = fc.oneof(
  fc.constantFrom(
    ..."=<>*'' \t\n.,();_".split(""),
    "''",
    "<>",
    ">=",
    "<=",
    "= '",
    "a",
    "select ",
    " from t where x",
    "e'",
  ),
  fc.constantFrom(
    "1",
    "0",
    "123456789",
    "1234567890",
    "1.5",
    "1e5",
    "1x",
    "$1",
    "--",
    "/*",
    '"',
    "\\",
    "\u0000",
    "é",
    "😀",
    "\ud800",
  ),
  fc.string({ maxLength: 3 }),
  fc.nat().map((value) => ` = ${value}`),
  fc.string({ maxLength: 5 }).map((value) => ` <= '${value}'`),
);

test("a text's canonical form is what the expressions give", () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const sql = pieces.join("");
      expect(normalise(sql)).toBe(byExpressions(sql));
    }),
    { seed, numRuns: 20_000 },
  );
});

test("every text of three characters", () => {
  const characters = "=<*' 19a.,\\\u0000é\ud800$";
  for (const a of characters) {
    for (const b of characters) {
      for (const c of characters) {
        for (const sql of [a + b + c, `x =${a}${b}${c}`, `'${a}${b}'${c}`])
          expect(normalise(sql)).toBe(byExpressions(sql));
      }
    }
  }
});

test("a long text is taken as it is", () => {
  expect(normalise("x".repeat(16_384))).toBe("x".repeat(16_384));
  expect(normalise("x".repeat(16_385))).toBeUndefined();
});
