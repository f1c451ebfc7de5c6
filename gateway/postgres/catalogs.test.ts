import { expect, test } from "bun:test";
import type { PostgresTarget } from "../config.ts";
import type { PolicySource } from "../session/dependencies.ts";
import { Catalogs } from "./catalogs.ts";

const noBindings = { labelBindings: async () => [], saveLabelBindings: async () => undefined };

test("what is remembered of a session's DDL keeps nothing of the session, once that has ended", async () => {
  const catalogs = new Catalogs(noBindings, {} as PolicySource);
  const open = () => catalogs.forSession({ name: "db" } as PostgresTarget, "app");
  const ddl = { outputColumns: null, changesCatalog: true, changesSession: false, redefines: ["orders"] };
  const ended = Array.from({ length: 100 }, () => {
    const session = open();
    session.noteForwarded(ddl, false, 1);
    session.noteSettled(1);
    return new WeakRef(session);
  });
  // A reference that was made is good until the turn ends.
  await Bun.sleep(1);
  Bun.gc(true);
  // The collector may take an old value on the stack for a reference.
  expect(ended.filter((session) => session.deref() !== undefined).length).toBeLessThan(10);
  const [one, other] = [open(), open()];
  one.noteForwarded(ddl, false, 1);
  const before = one.redefinitions - 1;
  expect([one, other].map((session) => session.isRedefined(before, new Set(["orders"])))).toEqual([false, true]);
});
