/** Literals, quoted names and comments are where PostgreSQL's own lexer finds them; what is taken out of a statement leaves its SQL. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { fingerprintSync, loadModule, scanSync } from "libpg-query";
import { redactStatement } from "./redaction.ts";
import { lexemes } from "./sql-lexemes.ts";

await loadModule();
const seed = Number(process.env.FUZZ_SEED ?? Date.now() & 0x7fffffff);
console.log(`sql-lexemes.fuzz seed ${seed}`);

const pieces = [
  ...["'", "'", "''", '"', '""', "\\", "\n", " ", "\t", "\r", "--", "/*", "*/", "$", "$a$", "$A$", "$$", "$é$", "$1$"],
  ...[
    "E'",
    "e'",
    "U&'",
    'U&"',
    "N'",
    "B'0'",
    "a",
    "b$",
    "é",
    "E",
    "_",
    "1",
    "1e",
    ".",
    ";",
    "(",
    ")",
    "=",
    "@",
    "-",
    "/",
  ],
];
const noise = fc.array(fc.constantFrom(...pieces), { maxLength: 30 }).map((parts) => parts.join(""));

/** Where each ends, in bytes; undefined for what PostgreSQL refuses. */
function endsByPostgres(sql: string): number[] | undefined {
  try {
    return scanSync(sql)
      .tokens.filter(({ text }) => /^(?:(?:[enbx]|u&)?'|(?:u&)?"|\$[^\d$]*\$|--|\/\*)/i.test(text))
      .map(({ end }) => end);
  } catch {
    return undefined;
  }
}

test("they end where PostgreSQL's end", () => {
  fc.assert(
    fc.property(noise, (sql) => {
      const expected = endsByPostgres(sql);
      // PostgreSQL joins literals over a comment, too; the parser library has comments as tokens, and does not.
      if (expected === undefined || /'(?:\s|--[^\n\r]*)*--[^\n\r]*[\n\r](?:\s|--[^\n\r]*)*'/.test(sql)) return;
      const ends = [...lexemes(sql)].map(({ stop }) => Buffer.byteLength(sql.slice(0, stop)));
      expect({ sql, ends }).toEqual({ sql, ends: expected });
    }),
    { seed, numRuns: 20_000 },
  );
});

test("a literal over lines has what all its parts say", () => {
  const found = [...lexemes(`'a'\n 'b''' /* c */ E'd\\''\n'e' "f" $$g$$ -- h`)];
  expect(found.map(({ kind, open, content }) => [kind, open, content])).toEqual([
    ["literal", "'", "ab''"],
    ["comment", "/*", " c "],
    ["literal", "E'", "d\\'e"],
    ["name", '"', "f"],
    ["literal", "$$", "g"],
    ["comment", "--", " h"],
  ]);
});

const word = fc.constantFrom(
  ...[
    "'x'",
    "'it''s'",
    "E'\\'x'",
    "'pwd=y'",
    "'a'\n'password=b'",
    "$A$ $a$ secret=z $A$",
    "$😀$ ' $😀$",
    "1",
    "o$b$.c",
  ],
  ...["/* /* */ password = ' */", "-- '\n", "/* -----BEGIN PRIVATE KEY----- */", "/*pwd=*/", "U&'p'", "id"],
  ...["'ghp_aaaaaaaaaaaaaaaaaaaaaaaa'", "'://a:b@c'", "E'x'\n' \\' password = '", "-- bearer abcdefghijk\n"],
);
const comment = fc.constantFrom("", "/* c */", "/*' password = */", "-- pwd='\n", "/* create user a password 'b' */");
const statement = fc
  .array(fc.tuple(word, comment, fc.constantFrom("or", "and", "=", "<>")), { minLength: 1, maxLength: 6 })
  .map((parts) => `select 1 where ${parts.flat().join(" ")} 2`);

test("a statement stays the same kind of command", () => {
  let compared = 0;
  fc.assert(
    fc.property(statement, (sql) => {
      let before: string;
      try {
        before = fingerprintSync(sql);
      } catch {
        return;
      }
      compared += 1;
      const shown = redactStatement(sql);
      expect({ sql, shown, fingerprint: fingerprintSync(shown.replaceAll("<redacted>", "r")) }).toEqual({
        ...{ sql, shown, fingerprint: before },
      });
    }),
    { seed, numRuns: 5_000 },
  );
  expect(compared).toBeGreaterThan(100);
});
