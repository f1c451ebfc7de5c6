/** `bun run dev` as a policy author uses it: a save is in force in a moment, a broken one is shown and changes nothing. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { policiesFolder } from "../policy/sources.ts";
import { startDev } from "./dev-under-test.ts";

let sources: string;
let dev: Awaited<ReturnType<typeof startDev>>;

beforeEach(async () => {
  sources = mkdtempSync(join(tmpdir(), "sallyport-dev-sources-"));
  cpSync(policiesFolder, sources, { recursive: true });
  dev = await startDev(sources);
}, 60_000);

afterEach(async () => {
  await dev?.stop();
  rmSync(sources, { recursive: true, force: true });
});

function edit(name: string, change: (text: string) => string): void {
  const path = join(sources, name);
  writeFileSync(path, change(readFileSync(path, "utf8")));
}

test("a saved rule comes in force and says when, what does not compile or judge is shown, and a signal ends all", async () => {
  const { port, token, user, folder } = dev;
  const sql = postgres({ host: "127.0.0.1", port, database: "demo", username: user, password: token, max: 1 });
  const [one] = await sql`select 1 as one`;
  expect(one).toEqual({ one: 1 });

  const broken = "\ndeny contains {";
  edit("writes/writes.rego", (text) => text + broken);
  await dev.until(/writes\.rego does not compile; sha256:\w+ stays/);
  await dev.until(/writes\.rego:\d+: rego_parse/);
  edit("data.yaml", (text) => `${text}targets: [\n`);
  await dev.until(/data\.yaml does not compile/);
  expect(await sql`select 2 as two`).toHaveLength(1);
  edit("data.yaml", (text) => text.replace("targets: [\n", ""));
  // It compiles, but what it answers is no decision.
  edit("writes/writes.rego", (text) => text.slice(0, -broken.length));
  edit("main.rego", (text) => text.replaceAll('"verdict": "deny"', '"verdict": "perhaps"'));
  await dev.until(/could not be reloaded.*self-test/);
  expect(await sql`select 3 as three`).toHaveLength(1);

  edit("main.rego", (text) => text.replaceAll('"verdict": "perhaps"', '"verdict": "deny"'));
  edit("writes/writes.rego", (text) => `${text}\ndeny contains {"id": "writes.none", "message": "nobody, ever"}\n`);
  const live = await dev.until(/live sha256:\w+ (\d+) ms after the save \(compiled in \d+ ms\)/);
  console.log(live);
  await expect(sql`select 4 as four`.execute()).rejects.toMatchObject({
    code: "42501",
    detail: expect.stringContaining("writes.none: nobody, ever"),
  });
  await sql.end();
  expect(await dev.stop()).toBe(0);
  expect(existsSync(folder)).toBe(false);
}, 60_000);
