/** Names of prepared statements and portals, where the target may tell them apart in another way. */
import { expect, test } from "bun:test";
import type { SessionAnalyser } from "./analysed.ts";
import type { PortalEntry } from "./expected.ts";
import { SessionNames } from "./session-names.ts";

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
