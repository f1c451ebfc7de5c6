import { expect, test } from "bun:test";
import { loweredLimits } from "../../../scripts/lowered-limits.ts";
import { limits } from "../../limits.ts";
import { parseSql } from "./parse.ts";

const refusal = (sql: string) => {
  const parsed = parseSql(sql);
  return parsed.kind === "error" ? parsed.error.message : undefined;
};

test("a text may be as long as the limit, in bytes of UTF-8, and not a byte longer", () => {
  using _ = loweredLimits({ sqlTextBytesMax: 100 });
  expect(refusal("select 1".padEnd(100))).toBeUndefined();
  expect(refusal("select 1".padEnd(101))).toContain("larger than 100 bytes");
  // 101 bytes in 100 characters.
  expect(refusal("select 'é'".padEnd(100))).toContain("larger than 100 bytes");
});

test("brackets may be nested as deep as the limit and not one deeper", () => {
  const nested = (depth: number) => `select ${"(".repeat(depth)}1${")".repeat(depth)}`;
  expect(refusal(nested(limits.sqlDepthMax))).toBeUndefined();
  expect(refusal(nested(limits.sqlDepthMax + 1))).toContain("nested too deeply");
});

test("a text may have as many statements as the limit and not one more", () => {
  expect(refusal("select 1;".repeat(limits.statementsPerQueryMax))).toBeUndefined();
  expect(refusal("select 1;".repeat(limits.statementsPerQueryMax + 1))).toContain("more than 1000 statements");
});
