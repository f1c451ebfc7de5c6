/** The mutations themselves: each still finds what it breaks and the test that must notice, and no invariant lacks some. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { limitMutations } from "./limit-mutations.ts";
import { applyEdit, type Mutation } from "./mutation.ts";
import { mutations } from "./mutations.ts";

const root = resolve(import.meta.dir, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const named = (list: readonly Mutation[]) => list.map((mutation) => [mutation.what, mutation] as const);

test.each(named([...mutations, ...limitMutations()]))(
  "%s: its text is in the source, and changes it",
  (_, { edits }) => {
    expect(edits.length).toBeGreaterThan(0);
    const texts = new Map<string, string>();
    for (const edit of edits) texts.set(edit.file, applyEdit(texts.get(edit.file) ?? read(edit.file), edit));
    for (const [file, text] of texts) {
      expect(text).not.toBe(read(file));
      // What does not parse would make any test red.
      expect(new Bun.Transpiler({ loader: "ts" }).transformSync(text)).not.toBe("");
    }
  },
);

test.each(named(mutations))("%s: the test that must notice is there", (_, { test: noticed }) => {
  if (noticed.kind === "test") expect(read(noticed.file)).toContain(noticed.name);
  else expect(read(noticed.file)).not.toBe("");
});

test("each invariant is broken in three ways at least, each under words of its own", () => {
  const ways = new Map<unknown, number>();
  for (const { invariant } of mutations) ways.set(invariant, (ways.get(invariant) ?? 0) + 1);
  for (const invariant of [1, 2, 3, 4, 5, 6, 7, 8, "also"]) expect(ways.get(invariant) ?? 0).toBeGreaterThanOrEqual(3);
  expect(new Set(mutations.map(({ what }) => what)).size).toBe(mutations.length);
});

test("a text that is gone, or is there once too often, is an error that names the file, and so is the start of a longer name", () => {
  const edit = { file: "a.ts", search: "one", replace: "two" };
  expect(applyEdit("one $&", { ...edit, replace: "$&" })).toBe("$& $&");
  expect(applyEdit("a.one + a.oneMax", { ...edit, search: "a.one", whole: true })).toBe("two + a.oneMax");
  expect(() => applyEdit("a.oneMax", { ...edit, search: "a.one", whole: true })).toThrow("a.ts has 0 times");
  expect(() => applyEdit("none", { ...edit, search: "gone" })).toThrow("a.ts has 0 times, not 1: gone");
  expect(() => applyEdit("one one", edit)).toThrow("a.ts has 2 times, not 1: one");
});
