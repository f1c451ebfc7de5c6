/**
 * kill -9 of the whole gateway while clients send as fast as they can, at moments chosen at random: in `strict` every
 * statement that the target logged has its intent on disk, and the store opens and verifies in either durability.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { resolve } from "node:path";
import postgres from "postgres";
import { type Endpoint, startGateway } from "../scripts/bench/postgres-processes.ts";
import { startIdentityProvider } from "../scripts/demo/identity-provider.ts";
import { type RunningPostgres, startPostgres } from "../scripts/postgres/server.ts";
import { readEvents, verifySession } from "./recording/reader.ts";
import { Recording } from "./recording/writer.ts";

const bundle = resolve(import.meta.dir, "../policies/dist/bundle.tar.gz");
const email = "ann@example.com";
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
      const gateway = await startGateway({
        ...{ server: target, issuer: provider.issuer, caller: { email, token }, target: "demo", bundle, durability },
      });
      const load = Array.from({ length: clients }, (_, kind) => sendUntilLost(gateway.endpoint, kind));
      while (nextNumber < first + 100) await Bun.sleep(5);
      const afterMs = Math.round(Math.random() * 400);
      console.log(`${durability}, round ${round}: killed ${afterMs} ms into the load`);
      await Bun.sleep(afterMs);
      await gateway.kill();
      await Promise.all(load);
      const recording = await Recording.open({ url: gateway.storeUrl, durability, gateway: "check" });
      const intents = new Set<string>();
      const sessions = await recording.calls.listSessions({ limit: 100 });
      expect(sessions.length).toBeGreaterThanOrEqual(clients);
      for (const { id } of sessions) {
        expect((await verifySession(recording.calls, id)).ok).toBe(true);
        for await (const event of readEvents(recording.calls, id)) {
          if (event.type === "intent" && event.forwarded) intents.add(event.text);
        }
      }
      await recording.close();
      const log = target.log().slice(logged);
      const ran = [...log.matchAll(/(?:statement|execute [^:]*): (select 1\d{6})$/gm)].map(([, text]) => text ?? "");
      expect(ran.length).toBeGreaterThan(50);
      if (durability === "strict") expect(ran.filter((text) => !intents.has(text))).toEqual([]);
      await gateway.stop();
    }
  }, 60_000);
}
