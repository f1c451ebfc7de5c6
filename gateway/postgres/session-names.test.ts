/** Names of prepared statements and portals, where the target may tell them apart in another way. */
import { expect, test } from "bun:test";
import type { SessionAnalyser } from "./analysed.ts";
import type { PortalEntry } from "./expected.ts";
import { SessionNames } from "./session-names.ts";
import { analyse } from "./sql/analyse.ts";
import { Catalog, type CatalogRelation } from "./sql/catalog.ts";

const namesIn = (encoding?: string) => new SessionNames({ encoding } as SessionAnalyser);
const making: [string, (names: SessionNames, name: string) => unknown][] = [
  ["Parse or PREPARE", (names, name) => names.preparing(name, 0, { text: "" })],
  ["Bind or DECLARE", (names, name) => names.binding(name, 0, { params: [] } as unknown as PortalEntry)],
  ["Close of a statement", (names, name) => names.closing("statements", name, 0)],
  ["Close of a portal", (names, name) => names.closing("portals", name, 0)],
];

test.each(making)("a name beyond ASCII is refused where the database may take it for another: %s", (_, make) => {
  // In EUC_JP these are one name.
  for (const name of ["¦", "￤"])
    expect(() => make(namesIn("EUC_JP"), name)).toThrow(expect.objectContaining({ code: "protocol.unsupported" }));
  make(namesIn("EUC_JP"), "S_1");
  make(namesIn("EUC_JP"), "");
  make(namesIn(), "é");
});

const people = (oid: number, schema: string, name = "people"): CatalogRelation => ({
  ...{ oid, schema, name, kind: "r", parents: [], definition: null },
  columns: [{ attnum: 1, name: "id", typeOid: 23, typeModifier: -1, generated: null }],
});

/** Names of a session whose relations and search path a test sets. */
function session() {
  const state = { relations: [people(1, "public")], searchPath: ["first", "public"], context: {} };
  const names = new SessionNames({
    get context() {
      return state.context;
    },
    get searchPath() {
      return state.searchPath;
    },
    analyse: (text: string) => {
      const { relations, searchPath } = state;
      const more = { schemas: ["first", "public"], functions: [], operators: [], searchPath, signature: "" };
      return analyse(text, { catalog: new Catalog({ relations, ...more }), searchPath, labels: new Map() });
    },
  } as unknown as SessionAnalyser);
  const change = (more: Partial<typeof state>) => Object.assign(state, { context: {} }, more);
  return { names, change };
}

test("a cursor goes on with what its names meant, under another search path too", () => {
  const { names, change } = session();
  change({ relations: [people(1, "public"), people(2, "first")], searchPath: ["public"] });
  const cursor = names.prepared("select id from people", true);
  change({ searchPath: ["first"] });
  expect(names.analysisOf(cursor).command.complete).toBe(false);
  change({ searchPath: ["public"] });
  expect(names.analysisOf(cursor).command.complete).toBe(true);
});

test("what was prepared by a name that a new relation takes by coming first is not judged as that one", () => {
  const { names, change } = session();
  const entry = names.prepared("update people set id = null");
  const reasons = () => names.analysisOf(entry).command.incomplete;
  expect(reasons()).toEqual([]);
  const both = [people(1, "public"), people(2, "first")];
  change({ relations: both });
  expect(reasons()).toEqual(['"people" means another relation than when it was prepared: prepare it again']);
  // By another path the target looks the name up again; not by the one of before.
  change({ searchPath: ["first"] });
  expect(reasons()).toEqual([]);
  change({ searchPath: ["first", "public"] });
  expect(reasons()).toHaveLength(1);
  change({ relations: [people(1, "public")] });
  expect(reasons()).toEqual([]);
  // What has another name or is gone itself is looked up again, too.
  change({ relations: [people(1, "public", "others")] });
  expect(reasons()).toEqual(['relation "people" is not known']);
});
