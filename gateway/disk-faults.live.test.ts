/**
 * A disk that is slow, and one that fails, under a gateway in `strict`: the kernel's answer to `fdatasync` is held back
 * or replaced by strace. A statement reaches the target only once its intent is on disk, and never where it cannot be.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { type RunningGateway, startGateway } from "../scripts/bench/postgres-processes.ts";
import { startIdentityProvider } from "../scripts/demo/identity-provider.ts";
import { hasStrace } from "../scripts/postgres/installed.ts";
import { type RunningPostgres, startPostgres } from "../scripts/postgres/server.ts";
import { bind, connectWire, execute, parse, query, sync, tellBriefly } from "../scripts/postgres/wire-client.ts";
import { readEvents, verifySession } from "./recording/reader.ts";
import { Recording } from "./recording/writer.ts";

const bundle = resolve(import.meta.dir, "../policies/dist/bundle.tar.gz");
const email = "ann@example.com";
let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let token: string;
let gateway: RunningGateway;
let client: Awaited<ReturnType<typeof connectWire>>;

beforeAll(async () => {
  target = await startPostgres({ settings: { log_statement: "all" } });
  provider = await startIdentityProvider({ users: [{ id: "ann", email, groups: ["analysts"] }] });
  token = await provider.mint("ann");
}, 60_000);

afterAll(async () => {
  await provider?.stop();
  await target?.stop();
});

beforeEach(async () => {
  gateway = await startGateway({
    ...{ server: target, issuer: provider.issuer, caller: { email, token }, target: "demo", bundle },
    durability: "strict",
  });
  client = await connect();
  expect(await client.exchange(query("select 7000001"))).toContain("SELECT 1");
});

afterEach(async () => {
  client.destroy();
  await gateway.stop();
});

const connect = () =>
  connectWire({
    ...gateway.endpoint,
    tell: (message) =>
      message.type === "ErrorResponse"
        ? `${message.fields.V} ${message.fields.C}: ${message.fields.M}`
        : tellBriefly(message),
  });

/** @param fault what strace does to each `fdatasync` of the gateway. @returns a function that ends it */
async function inject(fault: string): Promise<() => Promise<void>> {
  const strace = Bun.spawn(
    ["strace", "-f", "-e", "trace=fdatasync", "-e", `inject=fdatasync:${fault}`, "-p", String(gateway.pid)],
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
  test("a statement waits until the disk has its intent", async () => {
    const heal = await inject("delay_enter=600000");
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
    const [other, idle] = [await connect(), await connect()];
    const heal = await inject("error=EIO");
    client.send(query("select 7200001"));
    other.send(parse("select 7200002"), bind(), execute(), sync);
    const lost = "FATAL 58030: the recording failed; nothing runs unrecorded";
    expect(await Promise.all([client, other, idle].map((one) => one.untilClosed()))).toEqual([[lost], [lost], [lost]]);
    expect(await gateway.exited).toBe(1);
    await heal();
    expect(ran("720000")).toBe(false);
    expect(ran("7000001")).toBe(true);

    const recording = await Recording.open({ url: gateway.storeUrl, durability: "strict", gateway: "bench" });
    const sessions = await recording.calls.listSessions({ limit: 10 });
    const texts: string[] = [];
    for (const { id } of sessions) {
      expect((await verifySession(recording.calls, id)).ok).toBe(true);
      for await (const event of readEvents(recording.calls, id)) if (event.type === "intent") texts.push(event.text);
    }
    expect(texts).toContain("select 7000001");
    await recording.close();
  }, 30_000);
});
