/** The whole gateway as its own process: psql, the default policies, a real PostgreSQL, the API and the recording. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { connect as connectTls } from "node:tls";
import postgres from "postgres";
import { type DemoTarget, startDemoTarget } from "../scripts/demo/demo-target.ts";
import { hasPsql, libpq18 } from "../scripts/postgres/installed.ts";
import { runPsql } from "../scripts/postgres/psql.ts";
import { freePort, type RunningPostgres } from "../scripts/postgres/server.ts";
import { encodeFrontendMessage, encodeSSLRequest, encodeStartupMessage } from "./postgres/frontend-encoder.ts";
import { MessageWriter } from "./postgres/writer.ts";
import { verifySession } from "./recording/reader.ts";
import { Recording } from "./recording/writer.ts";

/** The test's certificate is its own. */
const trusting = { tls: { rejectUnauthorized: false } };
const root = resolve(import.meta.dir, "..");
let folder: string;
let demo: DemoTarget;
let target: RunningPostgres;
let gateway: Bun.Subprocess<"ignore", "ignore", Bun.BunFile>;
let port: number;
let http: number;
let tokens: DemoTarget["tokens"];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-gateway-"));
  demo = await startDemoTarget([
    { id: "ann", email: "ann@example.com", groups: ["analysts"] },
    { id: "olga", email: "olga@example.com", groups: ["oncall"] },
    { id: "dora", email: "dora@example.com", groups: ["dba"] },
    { id: "robot", email: "robot@example.com", groups: ["oncall"], client: "agent-reporter" },
  ]);
  ({ server: target, tokens } = demo);
  const { direct } = demo;
  await direct.unsafe("create view reversed as select id, reverse(email) as liame from customers");
  await direct.unsafe(`create view chosen as select c.id, case when ssn like '90%' then 'yes' end as starts, o.product
    from customers c left join orders o on o.customer_id = c.id and c.ssn like '90%' where c.id < 100`);
  await direct.unsafe("create view casting as select id from customers where ssn::text::int > 0");
  await direct.unsafe("create schema side; create table side.customers (id int, ssn text)");
  [port, http] = [await freePort(), await freePort()];
  const made = Bun.spawnSync(
    // biome-ignore format: one command line
    ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", join(folder, "tls.key"), "-out", join(folder, "tls.crt")],
    { stdout: "ignore", stderr: "pipe" },
  );
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  writeFileSync(
    join(folder, "gateway.yaml"),
    JSON.stringify({
      tls: { cert: "tls.crt", key: "tls.key" },
      listen: { postgres: `127.0.0.1:${port}`, http: `127.0.0.1:${http}` },
      identity: {
        issuers: [
          {
            issuer: demo.issuer,
            audience: ["sallyport-cli", "agent-reporter"],
            agents: { claim: "azp", values: ["agent-*"] },
          },
        ],
      },
      policies: { bundle: join(root, "policies/dist/bundle.tar.gz") },
      shutdown: { drain: "1s" },
      targets: [
        {
          name: "demo",
          kind: "postgres",
          address: `${target.host}:${target.port}`,
          database: target.database,
          tls: "disable",
          credential: { user: target.user, password: { env: "TARGET_PASSWORD" } },
        },
      ],
    }),
  );
  gateway = Bun.spawn([process.execPath, join(root, "gateway/main.ts"), "--config", join(folder, "gateway.yaml")], {
    env: { PATH: process.env.PATH ?? "", HOME: folder, TARGET_PASSWORD: target.password },
    stdin: "ignore",
    stdout: "ignore",
    stderr: Bun.file(join(folder, "log")),
  });
  for (let tries = 0; ; tries++) {
    if (
      await fetch(`https://127.0.0.1:${http}/readyz`, { tls: { rejectUnauthorized: false } }).then(
        (answer) => answer.ok,
        () => false,
      )
    )
      break;
    if (tries > 200) throw new Error("the gateway did not come up");
    await Bun.sleep(50);
  }
}, 60_000);

afterAll(async () => {
  gateway?.kill("SIGKILL");
  await demo?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A whole that only psql can be seen to work with. */
const withPsql = test.skipIf(!hasPsql);

const psql = (user: string, input: string, sslmode = "disable") =>
  runPsql(
    `host=127.0.0.1 port=${port} dbname=demo user=${user}@example.com sslmode=${sslmode}`,
    tokens[user] ?? "",
    input,
  );

const connectAs = (user: string) =>
  postgres({
    ...{ host: "127.0.0.1", port, database: "demo", max: 1, fetch_types: false },
    ...{ username: `${user}@example.com`, password: tokens[user] ?? "" },
  });

/** What the command line prints, called as this person. */
async function sallyport(user: string, ...line: string[]): Promise<string> {
  const run = Bun.spawn([process.execPath, join(root, "gateway/cli.ts"), ...line], {
    env: {
      PATH: process.env.PATH ?? "",
      HOME: folder,
      SALLYPORT_TOKEN: tokens[user] ?? "",
      SALLYPORT_GATEWAY: `https://localhost:${http}`,
      NODE_TLS_REJECT_UNAUTHORIZED: "0",
    },
    stdin: "ignore",
    stderr: "inherit",
  });
  return await new Response(run.stdout).text();
}

withPsql("an analyst reads, with labelled columns masked", async () => {
  const { out, err } = await psql("ann", "select id, name, email, ssn from customers order by id limit 3;\n");
  expect(err).toBe("");
  expect(out).toContain("(3 rows)");
  expect(out).not.toMatch(/\d{3}-\d{2}-\d{4}/);
});

withPsql("a denial's hint names a command that explains it as printed", async () => {
  const { err } = await psql("ann", "select lower(ssn) from customers;\n");
  const printed = /sallyport (policy explain --session \S+ --command \d+)/.exec(err)?.[1] ?? "";
  const out = await sallyport("ann", ...printed.split(" "));
  expect(out).toContain("derived   public.customers.ssn  [secret]");
  expect(out).toContain("verdict   deny");
  expect(out).toMatch(/labels\.rego:\d+/);
});

withPsql("what somebody ran is found by its words, by themselves and nobody else", async () => {
  await psql("olga", "select id as needle from orders\nwhere status = 'in haystack' limit 1;\n");
  const found = async (user: string, text: string) =>
    (JSON.parse(await sallyport(user, "sessions", "--json", "--text", text)) as { sessions: unknown[] }).sessions
      .length;
  expect(await found("olga", "needle haystack")).toBe(1);
  expect(await found("olga", '"from orders where"')).toBe(1);
  expect(await found("olga", "needles")).toBe(0);
  expect(await found("ann", "needle")).toBe(0);
});

withPsql("psql connects over TLS, and the gateway's certificate is what it checks", async () => {
  const { out, err } = await psql("ann", "select 1 as one;\n\\conninfo\n", "require");
  expect(err).toBe("");
  expect(out).toContain("SSL connection");
});

test("bytes sent in clear behind the request for TLS are refused", async () => {
  const socket = await new Promise<string>((done) => {
    let seen = "";
    const client = connect(port, "127.0.0.1", () => {
      const request = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
      client.write(Buffer.concat([request, Buffer.from([0, 0, 0, 8, 0, 3, 0, 0])]));
    });
    client.on("data", (chunk) => {
      seen += chunk.toString("latin1");
    });
    client.on("close", () => done(seen));
  });
  expect(socket).toContain("unencrypted data");
});

withPsql("a labelled column may not be laundered", async () => {
  for (const text of [
    "select upper(ssn) from customers",
    "select id from customers where ssn like '1%'",
    "select id from customers order by ssn",
    "select ssn from customers union all select ''",
    "select c from customers c",
    "select row_to_json(c) from customers c",
    "select min(ssn) from customers",
    "copy customers to stdout",
    "with x as (select ssn || '' as s from customers) select s from x",
    "select (select ssn from customers limit 1)",
    "create temp table t as select ssn from customers",
    "explain select * from customers where ssn = '1'",
    "select most_common_vals from pg_stats",
    "do $$ begin end $$",
    "select pg_read_file('/etc/passwd')",
    "select pg_sleep(1)",
    "drop table customers",
    "delete from customers",
  ]) {
    const { out, err } = await psql("ann", `${text};\n`);
    expect({ text, err }).toEqual({ text, err: expect.stringContaining("42501") });
    expect(out).toBe("");
  }
});

withPsql("aliases, subqueries and renames do not take a mask off", async () => {
  for (const text of [
    "select x.n from (select ssn as n from customers) x limit 1",
    "with x as (select ssn from customers) select * from x limit 1",
    "select (c).ssn from customers c limit 1",
    "table customers limit 1",
    'select "ssn" from public.customers limit 1',
  ]) {
    const { out, err } = await psql("ann", `${text};\n`);
    expect({ text, err }).toEqual({ text, err: "" });
    expect(out).toContain("(1 row)");
    expect(out).not.toMatch(/\d{3}-\d{2}-\d{4}/);
  }
});

withPsql("a COPY of columns without labels may stand beside a masked read in one text", async () => {
  const text =
    "select ssn from customers where id = 1\\; copy (select id from orders where id = 1) to stdout\\; table orders limit 1;\n";
  const { out, err } = await psql("ann", text);
  expect(err).toBe("");
  expect(out).toContain("[redacted]");
  expect(out.split("\n")).toContain("1");
});

withPsql("a view's expression over a labelled column shows nothing of it", async () => {
  const { out, err } = await psql("ann", "select id, liame from reversed limit 2;\n");
  expect(err).toBe("");
  expect(out).toContain("[redacted]");
  expect(out).not.toContain("@");
});

withPsql("nor whether it is NULL", async () => {
  const { out, err } = await psql("ann", "select starts, product from chosen;\n");
  expect(err).toBe("");
  const rows = out
    .split("\n")
    .filter((line) => /^ .*\|/.test(line))
    .slice(1);
  expect(new Set(rows)).toEqual(new Set([" [redacted] | [redacted]"]));
});

withPsql(
  "a transaction that is taken back, or a write to pg_settings, does not leave names read as they were in it",
  async () => {
    const read = "select upper(ssn) from customers;\n";
    for (const [user, text] of [
      ["ann", "begin;\nset search_path = side;\nselect 1;\nselect 1/0;\ncommit\\; "],
      ["ann", "begin;\nset search_path = side;\nsavepoint s;\nselect 1;\nselect 1/0;\ncommit;\n"],
      ["olga", "set search_path = side;\nupdate pg_settings set setting = 'public' where name = 'search_path';\n"],
    ] as const) {
      const { out, err } = await psql(user, `${text}${read}`);
      expect({ text, out }).toEqual({ text, out: expect.not.stringMatching(/\d{3}-\d{2}-\d{4}/) });
      expect(err).toContain("42501");
    }
  },
);

test("a name that does not exist is PostgreSQL's own error, with its place, unless the caller may not do it anyway", async () => {
  const { direct } = demo;
  const sql = connectAs("olga");
  const fault = (run: postgres.Sql, text: string, params: never[] = []) =>
    run.unsafe(text, params).then(
      () => "no error",
      ({ code, message, position }: postgres.PostgresError) => ({ code, message, position }),
    );
  for (const text of [
    "select * from nope",
    'select * from side."No pe"',
    "select nope from orders",
    "select orders.nope from orders",
    "select nope.* from orders",
    "update orders set nope = 1 where id = 1",
    "insert into orders (nope) values (1)",
    "delete from nope where id = 1",
    "select id from orders where id in (1234567, 2) and note = 'one of many' and nope",
    "select 'ä€😀', nope from orders",
    "select 'é'; select id, nope from orders where id = 12",
    "explain select nope from orders",
    "select a from nowhere where b = 1",
    "select a from orders where b = 1 order by c",
    "insert into orders (id, b) select a from orders where id = 1",
    "update orders set id = a where b = 1",
    "with one as (select 1 as id) select id, nope from one",
  ]) {
    expect([text, await fault(sql, text)]).toEqual([text, await fault(direct, text)]);
  }
  const text = "select nope from orders where id = $1";
  expect(await fault(sql, text, [1 as never])).toEqual(await fault(direct, text, [1 as never]));
  expect(await fault(sql, "select nope(1)")).toEqual({
    ...{ code: "42883", message: "function nope does not exist", position: "8" },
  });
  expect(await fault(sql, "select ssn || nope from customers")).toMatchObject({ code: "42501" });
  const ann = connectAs("ann");
  expect(await fault(ann, "update nope set a = 1 where b = 2")).toMatchObject({ code: "42501" });
  await sql.begin(async (tx) => {
    await tx`select 1`;
    await expect(tx.savepoint((inner) => inner.unsafe("select * from nope"))).rejects.toMatchObject({ code: "42P01" });
    expect(await tx`select 2 as two`).toMatchObject([{ two: 2 }]);
  });
  await Promise.all([sql.end(), ann.end()]);
});

withPsql("an error below a view shows no value of a column that the view does not", async () => {
  const { err } = await psql("ann", "select id from casting;\n");
  expect(err).toContain("22P02");
  expect(err).not.toMatch(/\d{3}-\d{2}-\d{4}/);
});

withPsql("psql's own commands work", async () => {
  const { out, err } = await psql("ann", "\\d customers\n\\dt\nbegin;\nselect 1;\ncommit;\n");
  expect(err).toBe("");
  expect(out).toContain('Table "public.customers"');
  expect(out).toContain("COMMIT");
});

withPsql("an agent's new kind of command is held, and runs once a person approves it", async () => {
  const running = psql("robot", "select count(*) from orders;\n");
  const headers = { authorization: `Bearer ${tokens.dora}`, "content-type": "application/json" };
  let id: string | undefined;
  for (let tries = 0; id === undefined && tries < 100; tries++) {
    await Bun.sleep(50);
    const answer = (await (
      await fetch(`https://127.0.0.1:${http}/v1/approvals?state=pending`, { headers, ...trusting })
    ).json()) as {
      approvals?: { id: string }[];
    };
    id = answer.approvals?.[0]?.id;
  }
  expect(id).toBeString();
  const own = await fetch(`https://127.0.0.1:${http}/v1/approvals/${id}/approve`, {
    method: "POST",
    ...trusting,
    headers: { ...headers, authorization: `Bearer ${tokens.robot}` },
    body: "{}",
  });
  expect(own.ok).toBe(false);
  const decided = await fetch(`https://127.0.0.1:${http}/v1/approvals/${id}/approve`, {
    method: "POST",
    ...trusting,
    headers,
    body: "{}",
  });
  expect(decided.status).toBe(200);
  const { out, err } = await running;
  expect(err).toContain("held for approval");
  expect(out).toContain("1500");
  expect((await psql("robot", "select count(*) from orders;\n")).err).toBe("");
});

test.skipIf(!hasPsql || libpq18 === undefined)("libpq 18 speaks TLS from the first byte", async () => {
  const query = "select ssl.ssn, length(repeat('x', 1000000)) from customers ssl order by ssl.id limit 1";
  const much = "select repeat('y', 1000) from generate_series(1, 20000)";
  const child = Bun.spawn(
    [
      ...["psql", "-X", "-A", "-t", "-c", query, "-c", much],
      `host=127.0.0.1 port=${port} dbname=demo user=ann@example.com sslmode=require sslnegotiation=direct`,
    ],
    {
      env: { PATH: process.env.PATH ?? "", PGPASSWORD: tokens.ann ?? "", LD_LIBRARY_PATH: libpq18 ?? "" },
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    },
  );
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect(err).toBe("");
  expect(out).toMatch(/\|1000000\n/);
  expect(out).not.toMatch(/\d{3}-\d{2}-\d{4}/);
  expect(out.match(/y{1000}\n/g)).toHaveLength(20_000);
});

const startup = encodeStartupMessage(new MessageWriter(), 0, { user: "ann@example.com", database: "demo" }).take();

/** All that comes until the gateway closes. */
async function untilClosed(socket: Socket, onData: () => void = () => undefined): Promise<string> {
  let received = "";
  socket.on("data", (chunk: Buffer) => {
    received += chunk.toString("latin1");
    onData();
  });
  await new Promise<void>((done) => {
    socket.on("close", () => done());
    socket.on("error", () => undefined);
  });
  return received;
}

test.each([
  ["no protocol", undefined],
  ["another protocol", ["http/1.1"]],
])("direct TLS that names %s by ALPN is not asked for a password", async (_, ALPNProtocols) => {
  const socket = connectTls({
    port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
    ...(ALPNProtocols && { ALPNProtocols }),
  });
  socket.on("secureConnect", () => socket.write(startup));
  expect(await untilClosed(socket)).not.toMatch(/^R/);
});

test("direct TLS that names PostgreSQL by ALPN is asked for a password, and may not ask for TLS once more", async () => {
  const options = { port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["postgresql"] };
  const asking = connectTls(options, () => asking.write(startup));
  expect(await untilClosed(asking, () => asking.end())).toBe("R\0\0\0\x08\0\0\0\x03");
  const again = connectTls(options, () => again.write(encodeSSLRequest(new MessageWriter()).take()));
  expect(await untilClosed(again)).toContain("unexpected SSLRequest");
});

test("a refused connection is logged with the user and the database that it asked for", async () => {
  const ann = postgres({
    ...{
      host: "127.0.0.1",
      port,
      database: "nowhere",
      max: 1,
      username: "ann@example.com",
      password: tokens.ann ?? "",
    },
  });
  await expect(ann.unsafe("select 1")).rejects.toThrow('no target "nowhere"');
  await ann.end();
  const line = readFileSync(join(folder, "log"), "utf8")
    .split("\n")
    .find((one) => one.includes("nowhere"));
  expect(JSON.parse(line ?? "{}")).toMatchObject({
    ...{ message: "connection refused", code: "session.target_unknown", user: "ann@example.com", database: "nowhere" },
  });
});

test("a client that has not logged in may not make the gateway hold a large message", async () => {
  const socket = connect(port, "127.0.0.1", () => socket.write(startup));
  const password = "x".repeat(65_536 - 4);
  const tooLong = encodeFrontendMessage(new MessageWriter(), { type: "PasswordMessage", password }).take();
  let asked = false;
  const said = await untilClosed(socket, () => {
    if (!asked) socket.write(tooLong);
    asked = true;
  });
  expect(said).toContain("a message of 65537 bytes is more than the 65536 accepted");
});

test("beside a running gateway --check changes nothing, and another that would write its store does not start", async () => {
  const sql = connectAs("ann");
  await sql`select 1 as before`;
  const start = async (...options: string[]) => {
    const command = [process.execPath, join(root, "gateway/main.ts"), "--config", join(folder, "gateway.yaml")];
    const env = { PATH: process.env.PATH ?? "", HOME: folder, TARGET_PASSWORD: target.password };
    const run = Bun.spawn([...command, ...options], { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([new Response(run.stdout).text(), new Response(run.stderr).text()]);
    return { code: await run.exited, out, err };
  };
  expect(await start("--check")).toMatchObject({ code: 0, out: expect.stringContaining("store are good"), err: "" });
  expect(await start()).toMatchObject({ code: 1, err: expect.stringContaining("Another gateway writes the store") });
  await sql`select 2 as after`;
  const page = JSON.parse(await sallyport("ann", "sessions", "--json", "--text", "after")) as {
    sessions: { id: string; closedAt: string | null }[];
  };
  expect(page.sessions.map(({ closedAt }) => closedAt)).toEqual([null]);
  const verified = JSON.parse(await sallyport("ann", "verify", page.sessions[0]?.id ?? "", "--json"));
  expect(verified).toMatchObject({ ok: true });
  await sql.end();
});

withPsql("SIGTERM drains and seals; every recording verifies and shows no masked value", async () => {
  gateway.kill("SIGTERM");
  expect(await gateway.exited).toBe(0);
  const recording = await Recording.open({
    url: `file:${join(folder, "data/sallyport.db")}`,
    durability: "strict",
    gateway: "check",
  });
  const sessions = await recording.calls.listSessions({ limit: 1_000 });
  expect(sessions.length).toBeGreaterThan(20);
  for (const session of sessions) {
    expect(session.closeReason).not.toBeNull();
    expect(await verifySession(recording.calls, session.id)).toMatchObject({ ok: true });
  }
  await recording.close();
});
