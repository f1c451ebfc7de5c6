/** `--store`: a store is read by programs of their own, as operators run them, and not a byte of it changes. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { sessionOpened } from "../../scripts/session-stand-ins.ts";
import type { SessionOpened } from "../recording/events.ts";
import { Recording } from "../recording/writer.ts";
import { openDatabase } from "../store/database.ts";

const root = resolve(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-store-source-"));
const store = join(folder, "closed", "store.db");
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const opened = (session: string, subject: string, at: number): SessionOpened => ({
  ...sessionOpened(session, subject, at),
  target: { name: subject === "ann" ? "db" : "other", kind: "postgres", database: "app", labels: {} },
});
const intent = (text: string) => ({
  ...({ type: "intent", at: 1_500, judgedAt: 1_500, command: 1, via: "query", text, params: [] } as const),
  ...({ digest: "sha256:d", analysis: null, novel: false, verdict: "deny", masks: [], diagnostics: "full" } as const),
  ...{ rules: [{ id: "r.1", message: "no" }], revision: "sha256:r", forwarded: false },
});

async function write(path: string): Promise<void> {
  const recording = await Recording.open({ url: `file:${path}`, durability: "strict", gateway: "g" });
  for (const [id, subject, at] of [
    ["s1", "ann", 1_000],
    ["s2", "bob", 100_000],
    ["s3", "bob", 200_000],
  ] as const) {
    const session = recording.session(opened(id, subject, at));
    if (id === "s1") session.append(intent("drop table customers"));
    await session.close({ type: "session.closed", at: at + 1_000, reason: "client" });
  }
  await recording.close();
}
/** The key that another store's gateway made. */
const otherKey = join(folder, "another", "store.db.key");
beforeAll(async () => {
  await write(store);
  await write(otherKey.replace(/\.key$/, ""));
});

async function sallyport(...line: string[]) {
  const child = Bun.spawn([process.execPath, join(root, "gateway/cli.ts"), ...line], {
    env: { PATH: process.env.PATH ?? "", HOME: folder },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const [out, err, code, peakKb] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
    peakOf(child),
  ]);
  return { out, err, code, peakKb };
}

/** The most that it had resident; what the system counts for it when it has ended begins with its parent's. */
async function peakOf(child: Bun.Subprocess): Promise<number> {
  let peakKb = 0;
  for (; child.exitCode === null && child.signalCode === null; await Bun.sleep(5)) {
    const status = existsSync(`/proc/${child.pid}/status`) ? readFileSync(`/proc/${child.pid}/status`, "utf8") : "";
    peakKb = Math.max(peakKb, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0));
  }
  return peakKb;
}

/** Of the database and its log; its index in shared memory (-shm) is no part of what is stored. */
function contents(path: string): Record<string, string> {
  const files = readdirSync(dirname(path)).filter((name) => name.startsWith(basename(path)) && !name.endsWith("-shm"));
  const digest = (name: string) => createHash("sha256").update(readFileSync(join(dirname(path), name)));
  return Object.fromEntries(files.sort().map((name) => [name, digest(name).digest("hex")]));
}

/** A database that a process of its own, which has ended, ran these statements on. */
async function execute(path: string, ...statements: string[]): Promise<void> {
  const program = `
    import { createClient } from "@libsql/client";
    const client = createClient({ url: ${JSON.stringify(`file:${path}`)} });
    for (const text of ${JSON.stringify(statements)}) await client.execute(text);
    client.close();`;
  const child = Bun.spawn([process.execPath, "-e", program], { cwd: root, stdout: "ignore", stderr: "inherit" });
  expect(await child.exited).toBe(0);
}

/** A copy of the store that these statements were run on. */
async function changed(name: string, ...statements: string[]): Promise<string> {
  cpSync(dirname(store), join(folder, name), { recursive: true });
  const path = join(folder, name, "store.db");
  await execute(path, ...statements);
  return path;
}

const ids = (out: string) => (JSON.parse(out) as { sessions: { id: string }[] }).sessions.map(({ id }) => id);

test("sessions lists what the filters ask for, page by page, without a gateway or a token", async () => {
  const list = async (...line: string[]) => ids((await sallyport("sessions", "--store", store, "--json", ...line)).out);
  expect(await list()).toEqual(["s3", "s2", "s1"]);
  expect(await list("--who", "bob@example.com")).toEqual(["s3", "s2"]);
  expect(await list("--target", "db")).toEqual(["s1"]);
  expect(await list("--verdict", "deny")).toEqual(["s1"]);
  expect(await list("--since", "1970-01-01T00:01:00Z", "--until", "1970-01-01T00:02:00Z")).toEqual(["s2"]);
  expect(await list("--limit", "2")).toEqual(["s3", "s2"]);
  expect(await list("--before", "s2")).toEqual(["s1"]);
  expect(await list("--text", "customers drop")).toEqual(["s1"]);
  expect(await list("--text", '"table customers"', "--who", "bob")).toEqual([]);
  const { code, err } = await sallyport("sessions", "--store", store, "--text", "*");
  expect([code, err]).toEqual([1, expect.stringContaining("no word to look for")]);
}, 30_000);

test("export and replay show the recording; a session that is not there is an error", async () => {
  const exported = await sallyport("export", "s1", "--store", `file:${store}`);
  const events = exported.out.trim().split("\n");
  expect(events.map((line) => JSON.parse(line).type)).toEqual(["session.opened", "intent", "session.closed"]);
  const replayed = await sallyport("replay", "s1", "--store", store);
  expect(replayed.out).toContain("drop table customers  [deny]");
  for (const command of ["export", "replay", "verify"]) {
    const { code, err } = await sallyport(command, "s9", "--store", store);
    expect([command, code, err]).toEqual([command, 1, expect.stringContaining("no such session")]);
  }
}, 30_000);

test("export and the cursor of sessions write nothing that drives a terminal", async () => {
  const odd = "char(155) || char(8238) || char(27)";
  const path = await changed(
    "odd",
    `update recording_chunks set data = cast(replace(cast(data as text), 'drop', ${odd}) as blob) where session = 's1'`,
    `update sessions set id = ${odd} where id = 's2'`,
  );
  const exported = await sallyport("export", "s1", "--store", path);
  expect(exported.out).toContain('"\\u009b\\u202e\\u001b table customers"');
  expect(JSON.parse(exported.out.split("\n")[1] ?? "").text).toBe("\x9b\u202e\x1b table customers");
  const { err } = await sallyport("sessions", "--store", path, "--limit", "2");
  expect(err).toBe("More: --before \\x9b\\u202e\\x1b\n");
}, 30_000);

test("verify checks chains and signatures by the key beside the store, or another, and says where it could not", async () => {
  const good = await sallyport("verify", "--all", "--store", store, "--json");
  expect(good.code).toBe(0);
  expect(JSON.parse(good.out)[0]).toEqual({ session: "s3", ok: true, events: 2, signatureChecked: true });
  const other = await sallyport("verify", "s1", "--store", store, "--key", otherKey);
  expect([other.code, other.out]).toEqual([5, expect.stringContaining("signature is not this gateway's")]);
  const keyless = await changed("keyless");
  rmSync(`${keyless}.key`);
  const unchecked = await sallyport("verify", "s1", "--store", keyless);
  expect([unchecked.code, unchecked.err]).toEqual([0, expect.stringContaining("were not checked")]);
}, 30_000);

test("a recording that is not whole fails export and replay, wherever it ends", async () => {
  const unreadable = await changed("unreadable", "update recording_chunks set codec = 'zstd' where session = 's1'");
  const gone = await changed("gone", "delete from recording_chunks where session = 's1'");
  for (const path of [unreadable, gone]) {
    for (const command of ["export", "replay"]) {
      const { code, err } = await sallyport(command, "s1", "--store", path);
      expect([command, code, err]).toEqual([command, 1, expect.stringContaining("after 0 of at least 3 events")]);
    }
  }
}, 30_000);

test.each([
  ["numbers-for-ever", "last = 1e300"],
  ["numbers-bytes", "last = x'ff'"],
  ["numbers-less", "last = last - 1"],
  ["empty-line", "data = cast(cast(data as text) || char(10) as blob)"],
  ["text", "data = cast(data as text)"],
  ["codec", "codec = 'RAW'"],
  ["nothing", "data = x''"],
  ["too-large", "data = zeroblob(200000000)"],
])(
  "a chunk as no gateway writes it fails its own session, at once: %s",
  async (name, change) => {
    const path = await changed(name, `update recording_chunks set ${change} where session = 's2'`);
    const { out, code, peakKb } = await sallyport("verify", "--all", "--store", path);
    expect([code, out]).toEqual([
      5,
      expect.stringMatching(/^ok {5}s3 .*\nFAILED s2 {2}event 1 cannot be read: .*\nok {5}s1 /),
    ]);
    expect(peakKb).toBeLessThan(250_000);
    const exported = await sallyport("export", "s2", "--store", path);
    expect([exported.code, exported.out]).toEqual([1, ""]);
    const found = await sallyport("sessions", "--text", "customers", "--store", path);
    expect([found.code, found.err]).toEqual([1, expect.stringContaining("recording of session s2 cannot be searched")]);
    expect((await sallyport("sessions", "--store", path)).code).toBe(0);
  },
  30_000,
);

test("what a few bytes say is gigabytes is not made of them", async () => {
  const part = Buffer.from(Bun.zstdCompressSync(Buffer.alloc(64 * 1_024 * 1_024, "\n"))).toString("hex");
  const change = `data = x'${part.repeat(6)}', codec = 'zstd'`;
  const path = await changed("bomb", `update recording_chunks set ${change} where session = 's2'`);
  const { out, code, peakKb } = await sallyport("verify", "s2", "--store", path);
  expect([code, out]).toEqual([5, expect.stringContaining("its chunk is larger than any that is written")]);
  expect(peakKb).toBeLessThan(450_000);
}, 30_000);

test.each([
  [
    "id",
    ["update sessions set id = cast(id as blob) where id = 's2'"],
    /^ok {5}s3 .*\nok {5}s1 .*\nFAILED s2 .*\nFAILED X'7332' {2}/,
  ],
  ["no-head", ["update sessions set head = 5 where id = 's2'"], /^ok {5}s3 .*\nFAILED s2 .*\nok {5}s1 /],
  [
    "words",
    ["update sessions set target = x'1b', close_reason = x'00' where id = 's2'"],
    /^ok {5}s3 .*\nFAILED s2 .*\nok {5}s1 /,
  ],
  [
    "seal",
    ["update seals set hash = 7, signature = 7 where session = 's2'"],
    /^FAILED s3 .*\nFAILED s2 .*\nok {5}s1 .*\nFAILED the seals/,
  ],
  [
    "seal-name",
    ["update seals set session = x'00' where session = 's2'"],
    /^ok {5}s3 .*\nFAILED s2 .*\nok {5}s1 .*\nFAILED X'00' /,
  ],
  [
    "no-id",
    [
      "create table loose as select * from sessions",
      "drop table sessions",
      "alter table loose rename to sessions",
      "insert into sessions select * from sessions where id = 's2'",
    ],
    /FAILED the list {2}.*: 1 of its 4 rows have no id of their own/,
  ],
] as const)(
  "a row with what no column of it should have is told, and the others are verified: %s",
  async (name, statements, told) => {
    const path = await changed(`row-${name}`, ...statements);
    const { out, code, err } = await sallyport("verify", "--all", "--store", path);
    expect([code, out, err]).toEqual([5, expect.stringMatching(told), expect.stringContaining(" failed.")]);
    expect((await sallyport("sessions", "--store", path)).code).toBe(0);
  },
  30_000,
);

test("a cursor with a time beyond all numbers ends its page", async () => {
  const path = await changed("huge", "update sessions set opened_at = 9223372036854775807 where id in ('s1', 's2')");
  const list = async (...line: string[]) => ids((await sallyport("sessions", "--store", path, "--json", ...line)).out);
  expect(await list()).toEqual(["s2", "s1", "s3"]);
  expect(await list("--before", "s1")).toEqual(["s3"]);
}, 30_000);

test("a store without one of its tables says which", async () => {
  const path = await changed("no-seals", "drop table seals");
  const { code, err } = await sallyport("verify", "--all", "--store", path);
  expect([code, err]).toEqual([1, "error: The store cannot be read: no such table: seals\n"]);
}, 30_000);

test("verify finds a changed event, and with --all a session that was taken out", async () => {
  const edited = await changed(
    "edited",
    "update recording_chunks set data = replace(cast(data as text), 'drop', 'show') where session = 's1'",
  );
  expect((await sallyport("verify", "s1", "--store", edited)).code).toBe(5);
  const short = await changed(
    "short",
    "delete from sessions where id = 's2'",
    "delete from recording_chunks where session = 's2'",
  );
  const { out, code } = await sallyport("verify", "--all", "--store", short);
  expect([code, out]).toEqual([5, expect.stringContaining("FAILED s2  the session is not in the store")]);
  // Its seal given to another, so that nothing seems to be missing.
  const relabelled = await changed(
    "relabelled",
    "delete from sessions where id = 's2'",
    "delete from recording_chunks where session = 's2'",
    "drop index seals_session_unique",
    "update seals set session = 's1' where session = 's2'",
  );
  const found = await sallyport("verify", "--all", "--store", relabelled);
  expect([found.code, found.out]).toEqual([
    5,
    expect.stringMatching(/^FAILED the seals {2}seal 2 is for a session that has another: s1/m),
  ]);
}, 30_000);

test("output that cannot be written is a failure, a reader that went away is none, and neither hides what was found", async () => {
  const tampered = await changed("tampered", "update sessions set subject = 'eve' where id = 's1'");
  const shell = async (store: string, command: string, to: string) => {
    const line = `{ "$BUN" "$CLI" ${command} --store "$STORE"; echo "exit $?" >&2; } ${to}`;
    const child = Bun.spawn(["sh", "-c", line], {
      env: {
        BUN: process.execPath,
        CLI: join(root, "gateway/cli.ts"),
        STORE: store,
        HOME: folder,
        PATH: process.env.PATH,
      },
      ...{ stdin: "ignore", stdout: "ignore", stderr: "pipe" },
    });
    return await new Response(child.stderr).text();
  };
  for (const command of ["verify --all", "export s1", "replay s1", "sessions"]) {
    const full = await shell(store, command, "> /dev/full");
    expect([command, full]).toEqual([
      command,
      expect.stringMatching(/could not be written: ENOSPC\n(?:.*\n)*exit 1\n$/),
    ]);
    expect([command, await shell(store, command, "| true")]).toEqual([command, expect.stringMatching(/exit 0\n$/)]);
  }
  for (const to of ["> /dev/full", "| true"]) {
    expect([to, await shell(tampered, "verify --all", to)]).toEqual([to, expect.stringMatching(/exit 5\n$/)]);
  }
}, 60_000);

test("a time that is none fails its own session, and the others are verified and listed", async () => {
  const path = await changed(
    "timeless",
    "update sessions set opened_at = 'yesterday', closed_at = 9e15 where id = 's1'",
    "update sessions set opened_at = 9e15 where id = 's2'",
  );
  const { out, code } = await sallyport("verify", "--all", "--store", path);
  expect([code, out]).toEqual([5, expect.stringMatching(/^FAILED s1 .*\nFAILED s2 .*\nok {5}s3 /m)]);
  const listed = await sallyport("sessions", "--store", path);
  expect([listed.code, listed.out]).toEqual([0, expect.stringMatching(/^s1 .*\ns2 .*\ns3 /m)]);
}, 30_000);

test("a store whose gateway was killed is read whole, and reading changes nothing in it", async () => {
  const path = join(folder, "killed", "store.db");
  const program = `
    import { Recording } from ${JSON.stringify(join(root, "gateway/recording/writer.ts"))};
    const recording = await Recording.open({ url: ${JSON.stringify(`file:${path}`)}, durability: "strict", gateway: "g" });
    const session = recording.session(${JSON.stringify(opened("k", "ann", 1_000))});
    for (let n = 1; ; n++) {
      session.append({ type: "notice", at: n, command: null, fields: {} });
      await session.committed();
      require("node:fs").writeSync(1, n + "\\n");
    }`;
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
  const output = new Response(child.stdout).text();
  while (!existsSync(path)) await Bun.sleep(10);
  await Bun.sleep(600);
  const live = await sallyport("verify", "k", "--store", path);
  expect([live.err, live.code]).toEqual(["", 0]);
  child.kill("SIGKILL");
  await child.exited;
  const acknowledged = Number((await output).trim().split("\n").at(-1));
  const before = contents(path);
  expect(Object.keys(before)).toContain("store.db-wal");
  const { out, code } = await sallyport("verify", "--all", "--store", path, "--json");
  expect(code).toBe(0);
  expect(JSON.parse(out)[0].events).toBeGreaterThan(acknowledged);
  expect(JSON.parse((await sallyport("sessions", "--store", path, "--json")).out).sessions[0].closedAt).toBeNull();
  expect((await sallyport("export", "k", "--store", path)).out.trim().split("\n").length).toBeGreaterThan(acknowledged);
  expect(contents(path)).toEqual(before);
}, 30_000);

test("a store of a later version, another database, no database and no file are refused and left as they are", async () => {
  const later = await changed("later", "update __drizzle_migrations set created_at = 9999999999999");
  const foreign = join(folder, "foreign.db");
  await execute(foreign, "create table t (a)");
  const text = join(folder, "text.db");
  writeFileSync(text, "no database at all ".repeat(1_000));
  for (const [path, problem] of [
    [later, "version 9999999999999, which this version of Sallyport does not know"],
    [foreign, "is not a store of Sallyport's"],
    [text, "cannot be read"],
    [join(folder, "nowhere.db"), "no store at"],
  ] as const) {
    const before = contents(path);
    const { code, err } = await sallyport("sessions", "--store", path);
    expect([code, err]).toEqual([4, expect.stringContaining(problem)]);
    expect(contents(path)).toEqual(before);
  }
  const opening = openDatabase({ url: `file:${later}`, durability: "strict" });
  await expect(opening).rejects.toThrow("does not know");
}, 30_000);

test("a folder is no store", async () => {
  const { code, err } = await sallyport("sessions", "--store", folder);
  expect([code, err]).toEqual([4, `error: ${folder} is no store: no file.\n`]);
});

test("a gateway's configuration names its store and its key", async () => {
  const config = join(folder, "gateway.yaml");
  const issuer = { issuer: "https://idp.example", audience: "sallyport" };
  const target = { name: "db", kind: "postgres", address: "127.0.0.1:1", database: "app", credential: { user: "u" } };
  const recording = { signing_key: otherKey };
  writeFileSync(
    config,
    JSON.stringify({
      ...{ listen: { postgres: "127.0.0.1:0" }, identity: { issuers: [issuer] }, targets: [target] },
      ...{ policies: { bundle: "none.tar.gz" }, store: { url: "file:closed/store.db", recording } },
    }),
  );
  const { out, code, err } = await sallyport("verify", "s1", "--store", config);
  expect([err, code, out]).toEqual(["", 5, expect.stringContaining("signature is not this gateway's")]);
}, 30_000);
