/**
 * The policy of a running gateway is replaced while 32 clients send as fast as they can: no connection is lost, what
 * follows the change is judged by the new revision, and one that is broken changes nothing.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { stringify } from "yaml";
import { libpqEnvironment, type RunningGateway, startGateway } from "../scripts/bench/postgres-processes.ts";
import { startIdentityProvider } from "../scripts/demo/identity-provider.ts";
import { type RunningPostgres, startPostgres } from "../scripts/postgres/server.ts";
import { openStore } from "./cli/store-source.ts";
import { decodeBackendMessage } from "./postgres/backend-decoder.ts";
import { encodeFrontendMessage, encodeStartupMessage } from "./postgres/frontend-encoder.ts";
import type { BackendMessage, FrontendMessage, PasswordMessage } from "./postgres/messages.ts";
import { FrameReader } from "./postgres/reader.ts";
import { MessageWriter } from "./postgres/writer.ts";
import type { RecordedEvent } from "./recording/events.ts";

const defaultBundle = resolve(import.meta.dir, "../policies/dist/bundle.tar.gz");
const clients = 32;
const open = { targets: { demo: { access: { analysts: ["read"], oncall: ["read", "write"] } } } };
const shut = { targets: { demo: { access: { analysts: [], oncall: ["read"] } } } };
let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
const tokens: Record<string, string> = {};
let folder: string;
let gateway: RunningGateway;

beforeAll(async () => {
  target = await startPostgres();
  provider = await startIdentityProvider({
    users: [
      { id: "ann", email: "ann@example.com", groups: ["analysts", "others"] },
      { id: "dora", email: "dora@example.com", groups: ["dba"] },
      { id: "robot", email: "robot@example.com", groups: ["oncall"], client: "agent-reporter" },
    ],
  });
  for (const user of ["ann", "dora", "robot"]) tokens[user] = await provider.mint(user);
}, 60_000);

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-reload-"));
  copyFileSync(defaultBundle, join(folder, "bundle.tar.gz"));
  replace("data.yaml", stringify(open));
  gateway = await startGateway({
    ...{ server: target, issuer: provider.issuer, target: "demo", durability: "group" },
    ...{ audience: ["sallyport-cli", "agent-reporter"], agents: { claim: "azp", values: ["agent-*"] } },
    ...{ caller: { email: "ann@example.com", token: tokens.ann ?? "" }, bundle: join(folder, "bundle.tar.gz") },
    policies: { data: join(folder, "data.yaml") },
  });
}, 60_000);

afterEach(async () => {
  await gateway?.stop();
  rmSync(folder, { recursive: true, force: true });
});

afterAll(async () => {
  await provider?.stop();
  await target?.stop();
});

/** As an editor or a deployment does it: written aside, renamed over. */
function replace(name: string, content: string | Uint8Array): void {
  writeFileSync(join(folder, `${name}.new`), content);
  renameSync(join(folder, `${name}.new`), join(folder, name));
}

interface PolicyStatus {
  readonly revision: { readonly digest: string };
  readonly lastError: string | null;
}

async function policyStatus(): Promise<PolicyStatus> {
  const headers = { Authorization: `Bearer ${tokens.ann}` };
  const answer = await fetch(`${gateway.api}/v1/status`, { headers });
  return ((await answer.json()) as { policy: PolicyStatus }).policy;
}

/** @returns how long it took. */
async function until(what: string, done: () => boolean | Promise<boolean>): Promise<number> {
  const startedMs = performance.now();
  while (!(await done())) {
    if (performance.now() - startedMs > 20_000) throw new Error(`not seen within 20 s: ${what}`);
    await Bun.sleep(5);
  }
  return performance.now() - startedMs;
}

function connect(user: string): postgres.Sql & { lost: number } {
  const { port, database } = gateway.endpoint;
  const counted = { lost: 0 };
  const sql = postgres({
    ...{ host: "127.0.0.1", port, database, max: 1, username: `${user}@example.com`, password: tokens[user] ?? "" },
    ...{ fetch_types: false, onnotice: () => undefined, onclose: () => counted.lost++ },
  });
  return Object.defineProperty(sql, "lost", { get: () => counted.lost }) as postgres.Sql & { lost: number };
}

const labelled = { targets: { demo: { ...open.targets.demo, labels: { "public.contacts.email": ["pii"] } } } };

/** @returns a connection without the gateway, to a target whose column has no label yet. */
async function withContacts(): Promise<postgres.Sql> {
  const { host, port, user: username, password, database } = target;
  const direct = postgres({ host, port, username, password, database, max: 1, onnotice: () => undefined });
  await direct.unsafe("drop table if exists contacts; create table contacts (id int, email text)").simple();
  await direct.unsafe("insert into contacts values (1, 'bob@example.com')");
  return direct;
}

async function pendingApproval(): Promise<string> {
  let id: string | undefined;
  await until("a hold", async () => {
    const headers = { Authorization: `Bearer ${tokens.dora}` };
    const answer = await fetch(`${gateway.api}/v1/approvals?state=pending`, { headers });
    ({ id } = ((await answer.json()) as { approvals?: { id: string }[] }).approvals?.[0] ?? {});
    return id !== undefined;
  });
  return id ?? "";
}

async function approve(id: string): Promise<void> {
  const headers = { Authorization: `Bearer ${tokens.dora}`, "Content-Type": "application/json" };
  const url = `${gateway.api}/v1/approvals/${id}/approve`;
  expect((await fetch(url, { method: "POST", headers, body: "{}" })).status).toBe(200);
}

/** A client that says exactly what it is told to. */
async function openRawClient(user: string) {
  const socket = connectSocket(gateway.endpoint.port, "127.0.0.1");
  const chunks: AsyncIterator<Buffer> = socket[Symbol.asyncIterator]();
  const reader = new FrameReader({ messageBytesMax: 1_048_576 });
  const client = {
    send: (message: FrontendMessage | PasswordMessage) =>
      void socket.write(encodeFrontendMessage(new MessageWriter(), message).take()),
    async until(type: BackendMessage["type"]): Promise<BackendMessage> {
      for (;;) {
        const frame = reader.next();
        if (frame === undefined) {
          const chunk = await chunks.next();
          if (chunk.done) throw new Error("the connection ended");
          reader.push(chunk.value);
          continue;
        }
        const message = decodeBackendMessage(frame);
        if (message.type === type) return message;
        if (message.type === "ErrorResponse") throw new Error(JSON.stringify(message.fields));
      }
    },
    close: () => socket.destroy(),
  };
  const startup = { user: `${user}@example.com`, database: gateway.endpoint.database };
  socket.write(encodeStartupMessage(new MessageWriter(), 0, startup).take());
  await client.until("AuthenticationCleartextPassword");
  client.send({ type: "PasswordMessage", password: tokens[user] ?? "" });
  await client.until("ReadyForQuery");
  return client;
}

/** 32 connections that send until they are told to stop. */
function startLoad() {
  const connections = Array.from({ length: clients }, () => connect("ann"));
  const seen = { allowed: 0, denied: 0, slowestMs: 0, faults: new Set<string>() };
  let running = true;
  const ended = connections.map(async (sql, kind) => {
    for (let number = 0; running; number++) {
      const startedMs = performance.now();
      const run =
        kind % 2 === 0 ? sql.unsafe(`select ${number}`).simple() : sql.unsafe("select 1 as one", [], { prepare: true });
      await run.then(
        () => seen.allowed++,
        (error) => (error.code === "42501" ? seen.denied++ : seen.faults.add(String(error))),
      );
      seen.slowestMs = Math.max(seen.slowestMs, performance.now() - startedMs);
    }
  });
  return {
    seen,
    async stop() {
      running = false;
      await Promise.all(ended);
      const lost = connections.reduce((sum, { lost }) => sum + lost, 0);
      await Promise.all(connections.map((sql) => sql.end()));
      return lost;
    },
  };
}

async function untilVerdict(load: ReturnType<typeof startLoad>, verdict: "allowed" | "denied"): Promise<number> {
  const { seen } = load;
  const other = verdict === "allowed" ? "denied" : "allowed";
  let [last, sinceMs] = [seen[other], performance.now()];
  const before = seen[verdict];
  return until(`only ${verdict}`, () => {
    if (seen[other] !== last) [last, sinceMs] = [seen[other], performance.now()];
    return seen[verdict] > before + clients && performance.now() - sinceMs > 250;
  });
}

test("a change of data is live under load, loses no connection, and each command is judged by one revision", async () => {
  const load = startLoad();
  await untilVerdict(load, "allowed");
  const first = (await policyStatus()).revision.digest;
  replace("data.yaml", stringify(shut));
  const changedMs = await untilVerdict(load, "denied");
  const second = (await policyStatus()).revision.digest;
  // Written over in place, in two parts.
  writeFileSync(join(folder, "data.yaml"), stringify(open).slice(0, 20));
  await Bun.sleep(20);
  writeFileSync(join(folder, "data.yaml"), `${stringify(open)}# again\n`);
  await untilVerdict(load, "allowed");
  const lost = await load.stop();
  console.log(
    `all denied ${Math.round(changedMs)} ms after the change; slowest answer ${Math.round(load.seen.slowestMs)} ms`,
  );
  expect([...load.seen.faults]).toEqual([]);
  expect(lost).toBe(0);
  expect(changedMs).toBeLessThan(5_000);
  expect(second).not.toBe(first);
  expect((await policyStatus()).revision.digest).toBe(first);
  const { storeUrl } = gateway;
  const store = await openStore({ store: storeUrl, environment: {} });
  const { sessions } = await store.list({ limit: 100 });
  expect(sessions.length).toBe(clients);
  for (const { id } of sessions) {
    let revision = first;
    const revisions = [first];
    const wrong: string[] = [];
    for await (const line of store.lines(id)) {
      const event = JSON.parse(line) as RecordedEvent;
      if (event.type === "session.revision") {
        revision = event.revision.digest;
        revisions.push(revision);
      }
      if (event.type !== "intent") continue;
      const verdict = revision === second ? "deny" : "allow";
      if (event.revision !== revision || event.verdict !== verdict) wrong.push(`${event.text}: ${event.verdict}`);
    }
    expect(wrong).toEqual([]);
    expect(revisions).toEqual([first, second, first]);
  }
  await store.close();
}, 60_000);

test("an open session's limit and settings follow a change of the rules, and what its rate counted stays", async () => {
  const sql = connect("ann");
  const rows = async () => (await sql.unsafe("select n from generate_series(1, 20) n").simple()).length;
  const timeout = async () => (await sql.unsafe("select current_setting('statement_timeout') as t"))[0]?.t;
  const change = async (rules: Record<string, unknown>) => {
    const before = (await policyStatus()).revision.digest;
    const who = { for: { identities: ["ann@example.com"] } };
    const named = Object.entries(rules).map(([name, rule]) => [name, { ...who, ...(rule as object) }]);
    replace("data.yaml", stringify({ ...open, rules: Object.fromEntries(named) }));
    await until("the change", async () => (await policyStatus()).revision.digest !== before);
  };
  await change({ few: { limit: 10 }, brief: { timeout: "400ms" } });
  expect([await rows(), await timeout()]).toEqual([10, "400ms"]);
  await change({ few: { limit: 3 }, brief: { timeout: "2s" } });
  expect([await rows(), await timeout()]).toEqual([3, "2s"]);
  await change({});
  expect([await rows(), await timeout()]).toEqual([20, "0"]);

  await change({ calm: { rate: { commands: 2, per: "1h" } } });
  expect([await rows(), await rows()]).toEqual([20, 20]);
  const used = expect.objectContaining({ code: "53400", message: expect.stringContaining("rules.calm") });
  expect(await rows().catch((error) => error)).toEqual(used);
  await change({ calm: { rate: { commands: 2, per: "1h" } }, few: { limit: 3 } });
  expect(await rows().catch((error) => error)).toEqual(used);
  await change({ calm: { rate: { commands: 3, per: "1h" } }, few: { limit: 3 } });
  expect(await rows()).toBe(3);
  expect(await rows().catch((error) => error)).toEqual(used);
  expect(sql.lost).toBe(0);
  await sql.end();
}, 60_000);

test("a broken bundle, data that is no YAML and a missing file change nothing, and the status says why", async () => {
  const load = startLoad();
  await untilVerdict(load, "allowed");
  const { revision } = await policyStatus();
  const good = await Bun.file(defaultBundle).bytes();
  const broken: [string, string | Uint8Array, string][] = [
    ["bundle.tar.gz", good.subarray(0, good.length / 2), "policy bundle"],
    ["bundle.tar.gz", Bun.gzipSync(new Uint8Array(2_048)), ".manifest"],
    ["data.yaml", "targets: [", "not valid YAML"],
    ["data.yaml", "targets: { demo: { access: { analysts: all } } }", "access"],
  ];
  for (const [name, content, message] of broken) {
    replace(name, content);
    await until(message, async () => (await policyStatus()).lastError?.includes(message) === true);
    expect((await policyStatus()).revision).toEqual(revision);
    replace(name, name === "data.yaml" ? stringify(open) : good);
    await until("good again", async () => (await policyStatus()).lastError === null);
  }
  rmSync(join(folder, "data.yaml"));
  await until("a missing file", async () => (await policyStatus()).lastError?.includes("cannot be read") === true);
  expect(await (await fetch(`${gateway.api}/readyz`)).json()).toMatchObject({
    ok: true,
    checks: { policy: expect.stringContaining("failed") },
  });
  const metrics = await (await fetch(`${gateway.api}/metrics`)).text();
  expect(metrics).toContain("sallyport_policy_reload_failing 1\n");
  expect(metrics).toMatch(/sallyport_policy_reloads_total\{result="refused"\} [1-9]/);
  expect(await load.stop()).toBe(0);
  expect([load.seen.denied, ...load.seen.faults]).toEqual([0]);
}, 60_000);

test("a link turned to another folder is taken up, and SIGHUP looks at once", async () => {
  // As Kubernetes mounts a ConfigMap: data.yaml -> ..data/data.yaml, ..data -> a folder of this version.
  for (const [version, data] of [
    ["1", open],
    ["2", shut],
  ] as const) {
    mkdirSync(join(folder, version));
    writeFileSync(join(folder, version, "data.yaml"), stringify(data));
  }
  symlinkSync("1", join(folder, "..data"));
  symlinkSync("..data/data.yaml", join(folder, "data.link"));
  renameSync(join(folder, "data.link"), join(folder, "data.yaml"));
  const sql = connect("ann");
  await sql`select 1`;
  symlinkSync("2", join(folder, "..data.new"));
  renameSync(join(folder, "..data.new"), join(folder, "..data"));
  await until("a denial", () =>
    sql`select 1`.then(
      () => false,
      () => true,
    ),
  );
  const attempted = async () => ((await policyStatus()) as unknown as { attemptedAt: string }).attemptedAt;
  const before = await attempted();
  process.kill(gateway.pid, "SIGHUP");
  await until("an attempt", async () => (await attempted()) !== before);
  expect((await policyStatus()).lastError).toBeNull();
  await sql.end();
}, 60_000);

test("a command that is held is judged again by the revision in force when it is approved", async () => {
  const direct = postgres({
    ...{ host: target.host, port: target.port, username: target.user, password: target.password },
    ...{ database: target.database, max: 1, onnotice: () => undefined },
  });
  await direct.unsafe("create table if not exists held (id int)");
  const sql = connect("robot");
  const held = sql`insert into held values (1)`.then(
    () => "ran",
    (error) => `${error.code} ${error.detail ?? ""}`,
  );
  const id = await pendingApproval();
  const { revision } = await policyStatus();
  replace("data.yaml", stringify(shut));
  await until("another revision", async () => (await policyStatus()).revision.digest !== revision.digest);
  await approve(id);
  expect(await held).toMatch(/^42501 .*access\.class/s);
  expect(await direct`select id from held`).toHaveLength(0);
  await sql.end();
  await direct.end();
}, 60_000);

test("a held command does not run by labels that changed meanwhile", async () => {
  const direct = await withContacts();
  const sql = connect("robot");
  const held = sql.unsafe("update contacts set id = id where id = 1 returning email").then(
    (rows) => JSON.stringify(rows),
    (error) => `${error.code} ${error.message}`,
  );
  const id = await pendingApproval();
  const { revision } = await policyStatus();
  // Nothing is held any more, and the column has a label now.
  replace("data.yaml", stringify({ ...labelled, agents: { hold: [], deny: [] } }));
  await until("another revision", async () => (await policyStatus()).revision.digest !== revision.digest);
  await approve(id);
  expect(await held).toMatch(/^42501 .*sallyport\.labels_changed/);
  const [again] = await sql.unsafe("update contacts set id = id where id = 1 returning email");
  expect(again?.email).toBe("b****@example.com");
  await sql.end();
  await direct.end();
}, 60_000);

describe("names that change while a command is held", () => {
  const nothing = { parameterFormats: [], parameters: [], resultFormats: [] };
  let direct: postgres.Sql;

  beforeEach(async () => {
    direct = await withContacts();
    await direct.unsafe("drop table if exists notes, other; create table notes (id int, note text)").simple();
    await direct.unsafe("insert into notes values (1, 'a note')");
    const before = await policyStatus();
    replace("data.yaml", stringify(labelled));
    await until("the labels", async () => (await policyStatus()).revision.digest !== before.revision.digest);
  });

  afterEach(async () => {
    await direct.unsafe("drop table if exists notes, other, contacts").simple();
    await direct.end();
  });

  test.each([
    ["a statement whose names mean something else does not run", "query", true],
    ["nor does a prepared one", "bind", true],
    ["a statement whose names mean the same runs, whatever else changed", "query", false],
    ["so does a prepared one", "bind", false],
  ])(
    "%s",
    async (_, via, swap) => {
      const client = await openRawClient("robot");
      const query = "update notes set id = id where id = 1 returning upper(note)";
      if (via === "query") client.send({ type: "Query", query });
      else {
        client.send({ type: "Parse", statement: "held", query, parameterTypeOids: [] });
        client.send({ type: "Sync" });
        await client.until("ReadyForQuery");
        client.send({ type: "Bind", portal: "", statement: "held", ...nothing });
        client.send({ type: "Execute", portal: "", rowsMax: 0 });
        client.send({ type: "Sync" });
      }
      const id = await pendingApproval();
      const swapping = "alter table notes rename to other; alter table contacts rename to notes";
      const changing = swap ? `${swapping}; alter table notes rename email to note` : "create table other (id int)";
      await direct.unsafe(changing).simple();
      await approve(id);
      const answer = await client.until(swap ? "ErrorResponse" : "DataRow");
      if (swap) expect(answer).toMatchObject({ fields: { C: "42501", M: expect.stringContaining("names_changed") } });
      else expect(answer).toMatchObject({ fields: [Buffer.from("A NOTE")] });
      client.close();
    },
    60_000,
  );
});

test("a batch that never ends with Sync is judged by labels that changed meanwhile", async () => {
  const direct = await withContacts();
  const client = await openRawClient("ann");
  const select = async () => {
    client.send({ type: "Parse", statement: "", query: "select email from contacts", parameterTypeOids: [] });
    const nothing = { parameterFormats: [], parameters: [], resultFormats: [] };
    client.send({ type: "Bind", portal: "", statement: "", ...nothing });
    client.send({ type: "Execute", portal: "", rowsMax: 0 });
    client.send({ type: "Flush" });
    const row = await client.until("DataRow");
    await client.until("CommandComplete");
    return row.type === "DataRow" ? String(row.fields[0]) : row.type;
  };
  expect(await select()).toBe("bob@example.com");
  const { revision } = await policyStatus();
  replace("data.yaml", stringify(labelled));
  await until("another revision", async () => (await policyStatus()).revision.digest !== revision.digest);
  expect(await select()).toBe("b****@example.com");
  client.send({ type: "Sync" });
  await client.until("ReadyForQuery");
  expect(await select()).toBe("b****@example.com");
  client.close();
  await direct.end();
}, 60_000);

test.skipIf(Bun.which("pgbench") === null)(
  "pgbench at 32 clients runs to its end while the policy is replaced",
  async () => {
    const script = join(folder, "one.sql");
    writeFileSync(script, "select 1;\n");
    const run = Bun.spawn(
      ["pgbench", "--no-vacuum", "-f", script, "-c", String(clients), "-T", "5", "-M", "prepared"],
      { env: libpqEnvironment(gateway.endpoint), stdout: "pipe", stderr: "pipe" },
    );
    const revisions = new Set<string>();
    for (let change = 0; run.exitCode === null; change++) {
      replace("data.yaml", stringify({ ...open, approvals: { count: 1, ttl: `${change + 1}m` } }));
      await Bun.sleep(500);
      revisions.add((await policyStatus()).revision.digest);
    }
    const [out, err] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    expect(err).not.toMatch(/error|aborted/i);
    expect(out).toMatch(/number of failed transactions: 0 /);
    expect(run.exitCode).toBe(0);
    expect(revisions.size).toBeGreaterThan(2);
  },
  60_000,
);
