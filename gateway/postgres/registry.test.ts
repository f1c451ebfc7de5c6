import { expect, test } from "bun:test";
import { NameRegistry } from "./registry.ts";

const make = (entriesMax = 10) => new NameRegistry<string>("prepared statement", entriesMax);

test("a name counts inside the batch that proposes it, before the target answered", () => {
  const registry = make();
  registry.propose("s", 1, "benign");
  expect(registry.lookup("s", 1)).toEqual({ kind: "found", value: "benign" });
});

test("a name proposed by an earlier unanswered batch is unsettled, so that no other text is judged in its place", () => {
  const registry = make();
  registry.settle("s", registry.propose("s", 1, "masked"), true);
  const second = registry.propose("s", 2, "harmless");
  expect(registry.lookup("s", 3)).toEqual({ kind: "unsettled" });
  // The target refuses the second Parse: the name still means the first text.
  registry.settle("s", second, false);
  expect(registry.lookup("s", 3)).toEqual({ kind: "found", value: "masked" });
});

test("a closed name is absent", () => {
  const registry = make();
  registry.settle("s", registry.propose("s", 1, "x"), true);
  const closing = registry.propose("s", 1, undefined);
  expect(registry.lookup("s", 1)).toEqual({ kind: "absent" });
  registry.settle("s", closing, true);
  expect(registry.lookup("s", 2)).toEqual({ kind: "absent" });
  expect(registry.size).toBe(0);
});

test("one name over the limit is refused", () => {
  const registry = make(2);
  registry.settle("a", registry.propose("a", 1, "x"), true);
  registry.settle("b", registry.propose("b", 1, "x"), true);
  expect(() => registry.propose("c", 1, "x")).toThrow("more than 2 prepared statements");
});

test("texts together have a bound: a refused, replaced, closed or cleared one no longer counts", () => {
  const registry = new NameRegistry<string>("prepared statement", 10, {
    lengthMax: 10,
    lengthOf: (text) => text.length,
  });
  const settle = (name: string, value: string | undefined, accepted = true) =>
    registry.settle(name, registry.propose(name, 1, value), accepted);
  settle("a", "12345");
  settle("b", "12345");
  expect(() => registry.propose("c", 1, "1")).toThrow("prepared statements of more than 10 characters");
  settle("a", undefined);
  settle("c", "12345", false);
  settle("c", "12345");
  expect(() => registry.propose("d", 1, "1")).toThrow("more than 10 characters");
  settle("b", undefined);
  settle("c", "1");
  settle("d", "123456789");
  expect(() => registry.propose("e", 1, "1")).toThrow("more than 10 characters");
  registry.clear();
  settle("e", "1234567890");
  expect(() => registry.propose("f", 1, "1")).toThrow("more than 10 characters");
});

test("clear keeps what it is told to keep", () => {
  const registry = make();
  registry.settle("a", registry.propose("a", 1, "hold"), true);
  registry.settle("b", registry.propose("b", 1, "drop"), true);
  registry.clear((value) => value === "hold");
  expect(registry.lookup("a", 2).kind).toBe("found");
  expect(registry.lookup("b", 2).kind).toBe("absent");
});
