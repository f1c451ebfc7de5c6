/**
 * One over each limit of a connection, on a real PostgreSQL: the server in this process, with limits that a test lowers
 * where the real ones are too large or slow to reach. Policy allows everything; the recording is a list behind a gate.
 */
import { afterAll, beforeAll, expect, setSystemTime, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { startIdentityProvider } from "../../scripts/demo/identity-provider.ts";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import { startServerUnderTest } from "../../scripts/postgres/server-under-test.ts";
import { bind, connectWire, execute, parse, query, sync } from "../../scripts/postgres/wire-client.ts";
import { emptyStore } from "../../scripts/session-stand-ins.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { RecordedEvent } from "../recording/events.ts";
import type { SessionAnalyser } from "./analysed.ts";
import { encodeFrontendMessage, encodeSSLRequest, encodeStartupMessage } from "./frontend-encoder.ts";
import type { FrontendMessage } from "./messages.ts";
import type { PostgresServer } from "./server.ts";
import { MessageWriter } from "./writer.ts";

const email = "ann@example.com";
let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let server: PostgresServer;
let port: number;
let token: string;
const events: RecordedEvent[] = [];
let analysed = 0;
/** Closed: nothing that is recorded may be acted upon. */
let gate: Promise<void> | undefined;
/** The recording takes nothing more. */
let full = false;

let stale = false;
let readsNames = "select repeat('x', 500) from generate_series(1, 10)";

const analyser: SessionAnalyser = {
  context: {},
  analyse: (text) => {
    analysed += 1;
    const command: CommandAnalysis = { kind: "sql", fingerprint: "", complete: true, incomplete: [], statements: [] };
    const copy = /^copy .* from stdin/i.test(text) ? { copy: { direction: "in" as const } } : {};
    return {
      command,
      plain: false,
      nameless: false,
      statements: [{ outputColumns: null, changesCatalog: false, changesSession: false, ...copy }],
    };
  },
  labelsOf: () => undefined,
  isDerived: () => false,
  changed: false,
  labels: new Map(),
  labelsOutdated: false,
  relabel: async () => undefined,
  get stale() {
    return stale;
  },
  redefinitions: 0,
  isRedefined: () => false,
  noteForwarded: () => undefined,
  noteSettled: () => undefined,
  invalidate: () => undefined,
  // What the gateway asks on a session's own connection before it serves the client.
  refresh: async (run) => {
    stale = false;
    await run(readsNames);
  },
};

beforeAll(async () => {
  target = await startPostgres({ tls: true });
  provider = await startIdentityProvider({ users: [{ id: "ann", email, groups: [] }] });
  token = await provider.mint("ann");
  const decision = { verdict: "allow" as const, rules: [], masks: [], diagnostics: "full" as const };
  ({ server, port } = await startServerUnderTest({
    target,
    configuration: {
      identity: { issuers: [{ issuer: provider.issuer, audience: "sallyport-cli" }] },
      tls: { cert: join(target.dataDir, "server.crt"), key: join(target.dataDir, "server.key") },
    },
    policy: {
      revision: { digest: "sha256:test" },
      labelsOf: () => new Map<string, string[]>(),
      judgeSession: () => decision,
      forSession: () => ({ judge: () => ({ decision }) }),
    },
    recording: {
      session: () => ({
        append: (event) => {
          if (full) throw new GatewayError("recording.lagging", "the recording cannot keep up");
          events.push(event);
        },
        committed: () => gate,
        close: async () => undefined,
      }),
    },
    store: emptyStore,
    analyser,
  }));
}, 60_000);

afterAll(async () => {
  await server?.drain(0);
  await provider?.stop();
  await target?.stop();
});

const open = (password = token) => connectWire({ port, user: email, password, database: "app" });
const words = (fault: unknown) => String((fault as Error).cause);

/** Bytes without a login. @returns what the gateway said until it closed, or until `enough` of it came. */
function say(bytes: Buffer, enough = Number.POSITIVE_INFINITY): Promise<string> & { socket: Socket } {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(bytes);
  let said = "";
  const answer = new Promise<string>((resolve) => {
    socket.on("data", (chunk) => {
      said += chunk.toString("latin1");
      if (said.length >= enough) resolve(said);
    });
    socket.on("close", () => resolve(said));
  });
  return Object.assign(answer, { socket });
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (isSo()) return;
    await Bun.sleep(10);
  }
  throw new Error(`waited in vain: ${what}`);
}
const noneOpen = () => until("sessions end", () => server.sessions === 0);

// --- who may connect, and how long that may take ---

test("one connection over the limit is refused, and one that ended makes room", async () => {
  await noneOpen();
  using _ = loweredLimits({ connectionsMax: 2 });
  const both = [await open(), await open()];
  expect(words(await open().catch((fault: unknown) => fault))).toContain("FATAL 53300");
  for (const one of both) one.end();
  await noneOpen();
  (await open()).end();
});

test("one connection too many that has not logged in is refused", async () => {
  using _ = loweredLimits({ unauthenticatedConnectionsMax: 2 });
  const both = [say(Buffer.alloc(0)), say(Buffer.alloc(0))];
  await Bun.sleep(50);
  expect(await say(Buffer.alloc(0))).toContain("too many connections");
  for (const { socket } of both) socket.destroy();
  await Bun.sleep(50);
  (await open()).end();
});

test("who does not log in in time is told so and cut", async () => {
  using _ = loweredLimits({ startupTimeoutMs: 100 });
  expect(await say(Buffer.from([0, 0]))).toContain("did not log in in time");
});

test("a TLS handshake that is begun and not ended is cut", async () => {
  using _ = loweredLimits({ tlsHandshakeTimeoutMs: 100 });
  const startedMs = performance.now();
  expect(await say(encodeSSLRequest(new MessageWriter()).take())).toStartWith("S");
  // By its own limit, not by that of the start-up that it is part of.
  expect(performance.now() - startedMs).toBeLessThan(limits.startupTimeoutMs / 2);
});

test("a start-up packet may be as long as the limit and not a byte longer", async () => {
  const announced = (length: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeInt32BE(length, 0);
    bytes.writeInt32BE(196_608, 4);
    return bytes;
  };
  expect(await say(announced(limits.startupPacketBytesMax + 1))).toContain("10001 bytes");
  const waiting = say(announced(limits.startupPacketBytesMax));
  expect(await Promise.race([waiting, Bun.sleep(100).then(() => "waits for the rest")])).toBe("waits for the rest");
  waiting.socket.destroy();
});

test("a session is ended soon after its token expired", async () => {
  const mintedAt = Date.now();
  const ours = await open(await provider.mint("ann", { lifetimeSeconds: 2 }));
  expect(await ours.untilClosed()).toEqual(["FATAL 57P01"]);
  // The token's second is cut, not rounded.
  expect(Date.now() - mintedAt).toBeLessThan(2_000 + 2 * limits.expiryCheckMs);
});

test.each([
  ["closes its side", (socket: Socket) => void socket.end()],
  ["goes away", (socket: Socket) => void socket.resetAndDestroy()],
])("a client that %s while its target is connected leaves nothing", async (_, leave) => {
  const other = await connectWire({ ...target });
  const login = encodeStartupMessage(new MessageWriter(), 0, { user: email, database: "app" }).take();
  const password = new MessageWriter();
  encodeFrontendMessage(password, { type: "PasswordMessage", password: token });
  const bytes = password.take();
  for (let client = 0; client < 10; client++) {
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    socket.write(login);
    socket.once("data", () => socket.write(bytes, () => leave(socket)));
  }
  await Bun.sleep(200);
  const gone = query("select from pg_stat_activity where backend_type = 'client backend' having count(*) = 1");
  for (let tries = 0; server.sessions > 0 || !(await other.exchange(gone)).includes("SELECT 1"); tries++) {
    if (tries === 200) throw new Error(`${server.sessions} sessions are left`);
    await Bun.sleep(50);
  }
  other.end();
});

// --- what a session may send ---

test("a message may be as long as the limit and not a byte longer", async () => {
  using _ = loweredLimits({ clientMessageBytesMax: 1_000 });
  const ours = await open();
  const ofLength = (length: number) => query("select 1".padEnd(length - 5));
  expect(await ours.exchange(ofLength(1_000))).toContain("SELECT 1");
  expect(await ours.exchange(ofLength(1_001))).toEqual(["FATAL 54000"]);
});

test("a message that is begun and not ended is cut", async () => {
  using _ = loweredLimits({ clientMessageStallMs: 100 });
  const ours = await open();
  // A Query whose text is not there yet; what came before it is answered.
  ours.send(query("select 1"));
  ours.sendBytes(Buffer.from([0x51, 0, 0, 0, 100]));
  expect((await ours.untilClosed()).at(-1)).toBe("FATAL 57014");
});

test("one prepared statement too many, or one character of their texts, ends the session", async () => {
  using _ = loweredLimits({ preparedStatementsMax: 2, preparedTextLengthMax: 20 });
  const ours = await open();
  expect(await ours.exchange(parse("select 1", "a"), parse("select 2", "b"), sync)).not.toContain("FATAL 54000");
  expect(await ours.exchange(parse("", "c"), sync)).toContain("FATAL 54000");
  const other = await open();
  expect(await other.exchange(parse("select 1".padEnd(20), "a"), sync)).toEqual(["ParseComplete", "ReadyForQuery"]);
  expect(await other.exchange(parse("x", "b"), sync)).toContain("FATAL 54000");
});

test("a Sync too many in a COPY ends the session; those before it count once the COPY fails", async () => {
  using _ = loweredLimits({ syncsInCopyMax: 10 });
  const ours = await open();
  await ours.exchange(query("create temp table taken (n int)"));
  const copying = async (client: typeof ours, syncs: number) => {
    client.send(query("copy taken from stdin"));
    await client.until("CopyInResponse");
    client.send(...Array<FrontendMessage>(syncs).fill(sync));
  };
  await copying(ours, 10);
  ours.send({ type: "CopyData", data: Buffer.from("no number\n") });
  await ours.until("ERROR 22P02");
  const after = Array<FrontendMessage>(2).fill(query("select 1"));
  expect(await ours.exchange(...after)).toContain("ReadyForQuery");
  const other = await open();
  await other.exchange(query("create temp table taken (n int)"));
  await copying(other, 11);
  expect((await other.untilClosed()).at(-1)).toBe("FATAL 54000");
  ours.end();
});

test("one portal too many ends the session", async () => {
  using _ = loweredLimits({ portalsMax: 2 });
  const ours = await open();
  await ours.exchange(query("begin"));
  expect(await ours.exchange(parse("select 1"), bind("", "a"), bind("", "b"), sync)).toEqual([
    ...["ParseComplete", "BindComplete", "BindComplete", "ReadyForQuery"],
  ]);
  expect(await ours.exchange(bind("", "c"), sync)).toContain("FATAL 54000");
});

test("a portal's parameters too many end the session, but what waits its turn", async () => {
  using _ = loweredLimits({ portalParametersLengthMax: 20 });
  const ours = await open();
  const big = (portal: string) => ({ ...bind("s", portal), parameters: [Buffer.from("x".repeat(12))] });
  // Each takes the unnamed portal's place, once the target has said so.
  const answer = await ours.exchange(parse("select $1::text", "s"), big(""), execute(), big(""), execute(), sync);
  expect(answer.filter((one) => one === "BindComplete")).toHaveLength(2);
  await ours.exchange(query("begin"));
  expect(await ours.exchange(big("a"), sync)).toContain("BindComplete");
  expect(await ours.exchange(big("b"), sync)).toContain("FATAL 54000");
});

test("a portal that waited for its Execute is judged again, once it runs no more", async () => {
  using _ = loweredLimits({ portalJudgementMsMax: 200 });
  const ours = await open();
  const before = events.length;
  const judged = () => events.slice(before).flatMap((event) => (event.type === "intent" ? [event.via] : []));
  await ours.exchange(
    query("begin"),
    parse("select generate_series(1, 3)"),
    bind(),
    execute("", 1),
    bind("", "late"),
    sync,
  );
  expect(judged()).toEqual(["query", "bind", "bind"]);
  await Bun.sleep(250);
  // The rest of what runs is the same command.
  expect(await ours.exchange(execute("", 1), sync)).toEqual(["DataRow", "PortalSuspended", "ReadyForQuery"]);
  expect(judged()).toEqual(["query", "bind", "bind"]);
  expect(await ours.exchange(execute("late"), sync)).toEqual([
    ...Array(3).fill("DataRow"),
    "SELECT 3",
    "ReadyForQuery",
  ]);
  expect(judged()).toEqual(["query", "bind", "bind", "execute"]);
  // Nor is it known how long one waited while the clock was set back.
  await ours.exchange(bind("", "back"), sync);
  setSystemTime(Date.now() - 3_600_000);
  await ours.exchange(execute("back"), sync);
  setSystemTime();
  expect(judged().slice(4)).toEqual(["bind", "execute"]);
  ours.end();
});

test.each([
  ["a query", [query("select 1")]],
  ["a batch", [parse("select 1"), bind(), execute(), sync]],
])("where %s is cancelled in the middle of reading names, they are read again for the next", async (_, sent) => {
  const quickly = readsNames;
  const ours = await open();
  stale = true;
  readsNames = "select pg_sleep(20)";
  const answers = ours.exchange(...sent);
  await until("it is asked", () => !stale);
  await Bun.sleep(100);
  await ours.cancel();
  expect(await answers).toEqual(["ERROR 57014", "ReadyForQuery"]);
  readsNames = quickly;
  for (let times = 0; times < 2; times++) {
    stale = true;
    expect(await ours.exchange(...sent)).toContain("SELECT 1");
    expect(stale).toBe(false);
  }
  ours.end();
});

test("what was sent before the client took its leave runs, however long its record takes", async () => {
  const ours = await open();
  await ours.exchange(query("create table if not exists left_behind (n int)"));
  const opening = Promise.withResolvers<void>();
  gate = opening.promise;
  ours.send(query("insert into left_behind values (1)"), { type: "Terminate" });
  await Bun.sleep(50);
  gate = undefined;
  opening.resolve();
  const other = await open();
  for (let tries = 0; ; tries++) {
    if ((await other.exchange(query("select from left_behind"))).includes("SELECT 1")) break;
    if (tries === 100) throw new Error("it did not run");
    await Bun.sleep(10);
  }
  other.end();
});

test("messages past those that may be in flight wait, and all are answered", async () => {
  using _ = loweredLimits({ messagesInFlightMax: 5 });
  const ours = await open();
  const parses = Array.from({ length: 40 }, () => parse("select 1"));
  expect(await ours.exchange(...parses, sync)).toEqual([...parses.map(() => "ParseComplete"), "ReadyForQuery"]);
  analysed = 0;
  const sleeps = Array.from({ length: 40 }, () => query("select pg_sleep(0.02)"));
  const answers = ours.exchange(...sleeps);
  await Bun.sleep(100);
  expect(analysed).toBeWithin(5, 20);
  expect((await answers).filter((answer) => answer === "ReadyForQuery")).toHaveLength(40);
  // What follows an error is passed over up to Sync, however much it is.
  expect(await ours.exchange(...parses, parse("no sql"), ...parses, sync)).toEqual([
    ...[...parses.map(() => "ParseComplete"), "ERROR 42601", "ReadyForQuery"],
  ]);
});

test("bytes that wait for the recording stop their client at the limit", async () => {
  const large = query("select 1".padEnd(1_000_000));
  const ours = await open();
  let release = () => {};
  gate = new Promise((resolve) => (release = resolve));
  analysed = 0;
  for (let sent = 0; sent < 30; sent++) ours.send(large);
  await Bun.sleep(300);
  const [read, kept] = [analysed, ours.bufferedBytes];
  gate = undefined;
  release();
  // The first is past the limit already; without one all 30 would have been taken.
  expect(limits.upstreamBufferBytesMax).toBeLessThan(1_000_000);
  expect(read).toBe(1);
  expect(kept).toBeGreaterThan(10_000_000);
  await until("all are served", () => analysed === 30);
  ours.end();
});

// --- what a target may send ---

test("a target's message may be as long as the limit and not a byte longer", async () => {
  using _ = loweredLimits({ upstreamMessageBytesMax: 10_000 });
  const ours = await open();
  const row = (bytes: number) => query(`select repeat('x', ${bytes - 10})`);
  expect(await ours.exchange(row(10_000))).toContain("DataRow");
  expect(await ours.exchange(row(10_001))).toContain("FATAL 08P01");
});

test("what the gateway itself asks a target may be answered in so many bytes and no more", async () => {
  {
    using _ = loweredLimits({ catalogQueryBytesMax: 6_000 });
    (await open()).end();
  }
  using _ = loweredLimits({ catalogQueryBytesMax: 5_000 });
  expect(words(await open().catch((fault: unknown) => fault))).toContain("FATAL 08P01");
});

// --- what is kept of it ---

test("notices of a command are recorded up to the limit, and all are passed on", async () => {
  using _ = loweredLimits({ recordedNoticesPerCommandMax: 2 });
  const ours = await open();
  for (let command = 1; command <= 2; command++) {
    events.length = 0;
    const answers = await ours.exchange(query("do $$ begin for i in 1..3 loop raise notice 'n'; end loop; end $$"));
    expect(answers.filter((answer) => answer === "NoticeResponse")).toHaveLength(3);
    expect(events.filter(({ type }) => type === "notice")).toHaveLength(2);
  }
  ours.end();
});

test("a session whose commands in flight can no longer be recorded is told so and ends, and others are served", async () => {
  const client = await open();
  client.send(query("select pg_sleep(60)"));
  const asked = await open();
  await until("it runs", () => events.some((event) => event.type === "intent" && event.text.includes("pg_sleep(60)")));
  full = true;
  try {
    client.send(query("select 2"));
    expect(await client.untilClosed()).toEqual(["FATAL 58030"]);
  } finally {
    full = false;
  }
  expect((await asked.exchange(query("select 3"))).join()).toContain("SELECT 1");
  asked.end();
});

test("a drain lets a session go on for its time and no longer", async () => {
  const other = await connectWire({ ...target });
  await other.exchange(query("create table late (n int)"));
  const running = await open();
  running.send(query("insert into late select 1 from pg_sleep(30)"));
  const ours = await open();
  const from = Date.now();
  const drained = server.drain(300);
  expect(await ours.exchange(query("select 1"))).toContain("SELECT 1");
  expect(await ours.untilClosed()).toEqual(["FATAL 57P01"]);
  expect(Date.now() - from).toBeGreaterThanOrEqual(300);
  expect(Date.now() - from).toBeLessThan(2_000);
  await drained;
  // What was cut does not commit later.
  const runs = query("select from pg_stat_activity where query like 'insert into late%' having count(*) = 0");
  for (let tries = 0; !(await other.exchange(runs)).includes("SELECT 1"); tries++) {
    if (tries === 100) throw new Error("it still runs");
    await Bun.sleep(50);
  }
  expect(await other.exchange(query("select from late"))).toContain("SELECT 0");
  other.end();
});
