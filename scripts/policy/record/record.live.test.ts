/** A session through the real gateway, taken from its store as a fixture: it passes at once and holds no value. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { type Demo, type Person, people, startDemo } from "../../demo/environment.ts";
import { loadPolicy } from "../subject.ts";
import { readFixture } from "../test/fixture-file.ts";
import { runFixture } from "../test/fixture-sessions.ts";

const main = join(import.meta.dir, "../main.ts");
const folder = mkdtempSync(join(tmpdir(), "sallyport-recorded-"));
let demo: Demo;

beforeAll(async () => {
  demo = await startDemo(() => undefined);
}, 60_000);
afterAll(async () => {
  await demo?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** @returns the session's id */
async function session(person: Person, use: (sql: postgres.Sql) => Promise<void>): Promise<string> {
  const sql = postgres({
    host: "127.0.0.1",
    port: demo.postgresPort,
    database: "demo",
    username: people[person],
    password: await demo.token(person),
    max: 1,
    fetch_types: false,
    onnotice: () => undefined,
  });
  await use(sql);
  await sql.end();
  for (;;) {
    const answer = await fetch(`${demo.api}/v1/sessions?limit=1`, {
      headers: { authorization: `Bearer ${await demo.token("iris")}` },
    });
    const { sessions } = (await answer.json()) as { sessions: { id: string; closedAt: string | null }[] };
    if (sessions[0]?.closedAt) return sessions[0].id;
    await Bun.sleep(20);
  }
}

async function recorded(id: string, ...more: string[]): Promise<{ path: string; text: string; said: string }> {
  const path = join(folder, `${id}${more.length}.yaml`);
  const run = Bun.spawn([process.execPath, main, "test", "--record", id, "--out", path, ...more], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = (await new Response(run.stderr).text()) + (await new Response(run.stdout).text());
  expect(await run.exited, said).toBe(0);
  return { path, text: readFileSync(path, "utf8"), said };
}

async function failures(path: string): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { steps } of runFixture(await loadPolicy({}), readFixture(path))) {
    found.push(...steps.filter(({ differences }) => differences.length > 0));
  }
  return found;
}

const secrets = ["Radia-4711", "987-65-4321", "hunter2", "424242", "tok_comment", "ada.private@example.com"];

test("each command comes again, and none of what people typed, nor a masked value, is in it", async () => {
  const id = await session("ada", async (sql) => {
    const refused = (text: string) => expect(sql.unsafe(text)).rejects.toThrow();
    await sql.unsafe("select ssn, email from customers order by 1 limit 3 /* tok_comment */").catch(() => undefined);
    await sql.unsafe("select id, ssn as number from customers where name = 'Radia-4711' or id = 424242").simple();
    await sql`select name from customers where country = ${"hunter2"} and id = ${7}`;
    await refused("select id from customers where ssn = '987-65-4321'");
    await refused("update customers set email = 'ada.private@example.com'");
    await sql
      .unsafe("prepare p as select email from customers where id = $1; execute p(424242)")
      .simple()
      .catch(() => undefined);
    await sql.unsafe("set search_path to 'public'").simple();
    await sql.unsafe("select product from orders order by 1").simple();
    await refused("select from 'hunter2");
  });
  const masked = (await demo.direct`select ssn, email from customers limit 50`).flatMap(({ ssn, email }) => [
    ssn,
    email,
  ]);
  const store = ["--store", join(demo.folder, "gateway.yaml")];
  const data = ["--data", join(demo.folder, "policies.yaml")];
  const alone = await recorded(id, ...store);
  for (const given of [alone, await recorded(id, ...store, ...data, "--catalog", "demo")]) {
    expect(given.said).toMatch(/(\d+) of \1 commands, and it passes/);
    expect(await failures(given.path)).toEqual([]);
    for (const secret of [...secrets, ...masked]) expect(given.text).not.toContain(secret);
  }
  expect(alone.text).toContain("select id, ssn as number from customers where name = 'x' or id = 1");
  expect(alone.text).toContain("create table public.customers (");
  expect(alone.text).not.toContain("eyJ");
}, 60_000);

test("what was held and approved is so in the fixture, over the store's own address", async () => {
  const id = await session("reporter", async (sql) => {
    const update = sql.unsafe("update orders set status = 'paid' where id = 31337").simple();
    const done = update.execute();
    const headers = { authorization: `Bearer ${await demo.token("dora")}`, "content-type": "application/json" };
    for (let decided = false; !decided; await Bun.sleep(50)) {
      const answer = await fetch(`${demo.api}/v1/approvals?state=pending`, { headers });
      const { approvals } = (await answer.json()) as { approvals: { id: string }[] };
      if (approvals[0] === undefined) continue;
      const url = `${demo.api}/v1/approvals/${approvals[0].id}/approve`;
      decided = (await fetch(url, { method: "POST", headers, body: "{}" })).ok;
    }
    await done;
  });
  const store = ["--store", `file:${join(demo.folder, "data/sallyport.db")}`];
  const { path, text } = await recorded(id, ...store, "--data", join(demo.folder, "policies.yaml"));
  expect(text).toMatch(/approved: true/);
  expect(text).toMatch(/approve agents\.write/);
  expect(text).not.toContain("31337");
  expect(await failures(path)).toEqual([]);
}, 60_000);
