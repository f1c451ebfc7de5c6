/**
 * What the target ran is on disk, whatever becomes of gateway or disk; the target logs each statement.
 * kill -9 of the whole gateway while clients send as fast as they can, at moments chosen at random: in `strict` every
 * statement that the target logged has its intent on disk, and the store opens and verifies in either durability.
 * A disk that is slow, and one that fails: the kernel's answer to `fdatasync` is held back or replaced by strace.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import postgres from "postgres";
import { type Endpoint, type RunningGateway, startGateway } from "../scripts/bench/postgres-processes.ts";
import { startIdentityProvider } from "../scripts/demo/identity-provider.ts";
import { hasStrace } from "../scripts/postgres/installed.ts";
import { type RunningPostgres, startPostgres } from "../scripts/postgres/server.ts";
import { bind, connectWire, execute, parse, query, sync, tellBriefly } from "../scripts/postgres/wire-client.ts";
import { readEvents, verifySession } from "./recording/reader.ts";
import { Recording } from "./recording/writer.ts";

const bundle = resolve(import.meta.dir, "../policies/dist/bundle.tar.gz");
const email = "ann@example.com";
type Durability = "strict" | "group";
const rounds = 3;
const clients = 6;
let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let token: string;
let nextNumber = 1_000_000;

beforeAll(async () => {
  target = await startPostgres({ settings: { log_statement: "all" } });
  provider = await startIdentityProvider({ users: [{ id: "ann", email, groups: ["analysts"] }] });
  token = await provider.mint("ann");
}, 60_000);

afterAll(async () => {
  await provider?.stop();
  await target?.stop();
});

const startWith = (durability: Durability) =>
  startGateway({
    ...{ server: target, issuer: provider.issuer, caller: { email, token }, target: "demo", bundle, durability },
  });

/** What was let through, of a store whose gateway has ended; each of its sessions verifies. */
async function intentsOf(url: string, durability: Durability) {
  const recording = await Recording.open({ url, durability, gateway: "check" });
  const intents = new Set<string>();
  const sessions = await recording.calls.listSessions({ limit: 100 });
  for (const { id } of sessions) {
    expect((await verifySession(recording.calls, id)).ok).toBe(true);
    for await (const event of readEvents(recording.calls, id)) {
      if (event.type === "intent" && event.forwarded) intents.add(event.text);
    }
  }
  await recording.close();
  return { sessions: sessions.length, intents };
}

/** Statements with a number of their own each, by both protocols and pipelined, until the connection is lost. */
async function sendUntilLost(endpoint: Endpoint, kind: number): Promise<void> {
  const sql = postgres({
    ...{ host: "127.0.0.1", port: endpoint.port, database: endpoint.database, max: 1 },
    ...{ username: endpoint.user, password: endpoint.password, fetch_types: false, onnotice: () => undefined },
  });
  const one = () => {
    const text = `select ${nextNumber++}`;
    return kind % 3 === 0 ? sql.unsafe(text).simple() : sql.unsafe(text, [], { prepare: kind % 3 === 1 });
  };
  try {
    for (;;) await Promise.all(kind % 2 === 0 ? [one()] : [one(), one(), one(), one()]);
  } catch (error) {
    const { code } = error as { code: string };
    if (!["CONNECTION_CLOSED", "ECONNRESET", "ECONNREFUSED"].includes(code)) throw error;
  }
  await sql.end({ timeout: 0 });
}

for (const durability of ["strict", "group"] as const) {
  test(`${durability}: a gateway killed under load leaves what it let through`, async () => {
    for (let round = 1; round <= rounds; round++) {
      const first = nextNumber;
      const logged = target.log().length;
      const gateway = await startWith(durability);
      const load = Array.from({ length: clients }, (_, kind) => sendUntilLost(gateway.endpoint, kind));
      while (nextNumber < first + 100) await Bun.sleep(5);
      const afterMs = Math.round(Math.random() * 400);
      console.log(`${durability}, round ${round}: killed ${afterMs} ms into the load`);
      await Bun.sleep(afterMs);
      await gateway.kill();
      await Promise.all(load);
      const { sessions, intents } = await intentsOf(gateway.storeUrl, durability);
      expect(sessions).toBeGreaterThanOrEqual(clients);
      const log = target.log().slice(logged);
      const ran = [...log.matchAll(/(?:statement|execute [^:]*): (select 1\d{6})$/gm)].map(([, text]) => text ?? "");
      expect(ran.length).toBeGreaterThan(50);
      if (durability === "strict") expect(ran.filter((text) => !intents.has(text))).toEqual([]);
      await gateway.stop();
    }
  }, 60_000);
}

/** @param fault what strace does to each `fdatasync` of the gateway. @returns a function that ends it */
async function inject({ pid }: RunningGateway, fault: string): Promise<() => Promise<void>> {
  const strace = Bun.spawn(
    ["strace", "-f", "-e", "trace=fdatasync", "-e", `inject=fdatasync:${fault}`, "-p", String(pid)],
    { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  let said = "";
  const attached = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const chunk of strace.stderr.pipeThrough(new TextDecoderStream())) {
      said += chunk;
      if (said.includes(" attached")) attached.resolve();
    }
    attached.reject(new Error(`strace ended: ${said}`));
  })();
  await attached.promise;
  return async () => {
    strace.kill("SIGINT");
    await strace.exited;
    await reading;
  };
}

const ran = (text: string) => target.log().includes(text);

describe.skipIf(!hasStrace)("strict", () => {
  let gateway: RunningGateway;
  let client: Awaited<ReturnType<typeof connect>>;

  const connect = () =>
    connectWire({
      ...gateway.endpoint,
      tell: (message) =>
        message.type === "ErrorResponse"
          ? `${message.fields.V} ${message.fields.C}: ${message.fields.M}`
          : tellBriefly(message),
    });

  beforeEach(async () => {
    gateway = await startWith("strict");
    client = await connect();
    expect(await client.exchange(query("select 7000001"))).toContain("SELECT 1");
  });

  afterEach(async () => {
    client.destroy();
    await gateway.stop();
  });

  test("a statement waits until the disk has its intent", async () => {
    const heal = await inject(gateway, "delay_enter=600000");
    const startedAt = performance.now();
    const answer = client.exchange(parse("select 7100001"), bind(), execute(), sync);
    await Bun.sleep(300);
    expect(ran("7100001")).toBe(false);
    expect(await answer).toContain("SELECT 1");
    expect(performance.now() - startedAt).toBeGreaterThan(600);
    expect(ran("7100001")).toBe(true);
    await heal();
  }, 30_000);

  test("a statement whose intent cannot be on disk does not run; its client is told, and the gateway ends", async () => {
    const [other, idle, leaving] = [await connect(), await connect(), await connect()];
    const heal = await inject(gateway, "error=EIO");
    leaving.send(query("select 7200003"), { type: "Terminate" });
    client.send(query("select 7200001"));
    other.send(parse("select 7200002"), bind(), execute(), sync);
    const lost = "FATAL 58030: the recording failed; nothing runs unrecorded";
    expect(await Promise.all([client, other, idle].map((one) => one.untilClosed()))).toEqual([[lost], [lost], [lost]]);
    expect(await gateway.exited).toBe(1);
    await heal();
    expect(ran("720000")).toBe(false);
    expect(ran("7000001")).toBe(true);
    expect((await intentsOf(gateway.storeUrl, "strict")).intents).toContain("select 7000001");
  }, 30_000);
});

test.skipIf(!hasStrace)(
  "group: a disk that fails is noticed within moments, and the gateway ends",
  async () => {
    const gateway = await startWith("group");
    const client = await connectWire({ ...gateway.endpoint, tell: tellBriefly });
    const heal = await inject(gateway, "error=EIO");
    expect(await client.exchange(query("select 7300001"))).toContain("SELECT 1");
    expect(await Promise.race([gateway.exited, Bun.sleep(10_000).then(() => "it runs")])).toBe(1);
    await heal();
    client.destroy();
    await gateway.stop();
  },
  30_000,
);
