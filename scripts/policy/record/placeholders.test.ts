import { expect, test } from "bun:test";
import { parseSql } from "../../../gateway/postgres/sql/parse.ts";
import { placeholder, withoutValues } from "./placeholders.ts";

const none = { smallIntegers: false };

test("each literal becomes one of its own form, comments go, and names stay", () => {
  const cases = [
    ["select name from t where ssn = '987-65-4321'", "select name from t where ssn = 'x'"],
    ["select 42, 4.25, 0xFF, 1e9 -- secret", "select 1, 1.5, 1, 1.5"],
    ["select /* a /* secret */ b */ id", "select   id"],
    ["select E'it\\'s secret', U&'\\0041', N'secret'", "select E'x', U&'x', N'x'"],
    ["select 'it''s', '2024-05-06', '2024-05-06 07:08:09'", "select 'x', '2000-01-01', '2000-01-01 00:00:00+00'"],
    ["select $tag$ secret 'x' $tag$, $1", "select $$x$$, $1"],
    ["select '{\"a\": 1}'::jsonb, b'101'", "select '{}'::jsonb, b'0'"],
    ["select t1.c2 from t1", "select t1.c2 from t1"],
    ["select 'unterminated secret", "select 'x'"],
    ["select $$unterminated secret", "select $$x$$"],
    ["set search_path to 'side, public'", "set search_path to 'side, public'"],
    ["set application_name to 'secret'", "set application_name to 'x'"],
  ] as const;
  for (const [given, expected] of cases) {
    expect(withoutValues(given, none)).toBe(expected);
    if (!given.includes("unterminated")) expect(parseSql(withoutValues(given, none)).kind).toBe("parsed");
    expect(withoutValues(given, none)).not.toContain("secret");
  }
});

test("positions of one or two digits are kept only where they are asked for", () => {
  expect(withoutValues("select a, b from t order by 2 limit 100", none)).toBe("select a, b from t order by 1 limit 1");
  expect(withoutValues("select a, b from t order by 2 limit 100", { smallIntegers: true })).toBe(
    "select a, b from t order by 2 limit 1",
  );
});

test("a parameter's placeholder has its form", () => {
  const given = ["17", "-1.5", "6f1c1a2e-0000-4000-8000-1234567890ab", "true", "", "someone@example.com"];
  expect(given.map(placeholder)).toEqual(["1", "1.5", "00000000-0000-0000-0000-000000000000", "true", "", "x"]);
});
