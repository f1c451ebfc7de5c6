/** Recordings over the API, by the API's own routes over HTTP: what comes is all of a recording, or a failure. */
import { afterAll, expect, test } from "bun:test";
import { createApi } from "../api/app.ts";
import { createMetrics } from "../api/metrics.ts";
import { serveApi } from "../api/serve.ts";
import type { ApiStore, SessionRecord } from "../api/views.ts";
import { runCli } from "../cli.ts";
import { createLogger } from "../log.ts";

const session: SessionRecord = {
  ...{ id: "s1", issuer: "https://idp", subject: "ann", email: "ann@example.com", kind: "human", target: "db" },
  ...{ openedAt: 1_000, closedAt: 2_000, closeReason: "client", commands: 0, events: 3 },
};
/** What the store has, and what then becomes of its reading. */
let recorded: unknown[];
let failure: Error | undefined;
const store: Partial<ApiStore> = {
  getSession: async () => session,
  async *lines() {
    for (const event of recorded) yield { lines: [JSON.stringify(event)] };
    if (failure !== undefined) throw failure;
  },
};
const log: string[] = [];
const identity = { issuer: "https://idp", subject: "ann", email: "ann@example.com", groups: [] };
const app = createApi({
  verifier: {
    verify: async () => ({
      identity: { ...identity, kind: "human", claims: {} },
      expiresAtMs: Number.POSITIVE_INFINITY,
      graceMs: 0,
    }),
  },
  store: store as ApiStore,
  log: createLogger({ write: (line) => void log.push(line) }),
  metrics: createMetrics(),
  ready: () => ({ ok: true, checks: {} }),
  policyStatus: () => ({ revision: { digest: "sha256:01" } }),
  policyData: () => ({}),
  verifySession: async () => ({ ok: true }),
});
const server = serveApi(app, { host: "127.0.0.1", port: 0 });
afterAll(() => server.close());

async function sallyport(...line: string[]) {
  let [out, err] = ["", ""];
  const terminal = {
    out: (text: string) => {
      out += text;
    },
    err: (text: string) => {
      err += text;
    },
    ...{ isTTY: false, columns: 100, environment: { SALLYPORT_TOKEN: "t" } },
  };
  const gateway = `http://${server.host}:${server.port}`;
  const code = await runCli([...line, "--gateway", gateway], terminal, new AbortController().signal);
  return { code, out, err };
}

const events = [1, 2, 3].map((at) => ({ type: "notice", at, fields: { S: "NOTICE", M: "m" } }));

test("a recording that comes whole is written whole, and so is one that went on meanwhile", async () => {
  for (const more of [[], [{ ...events[0], at: 4 }]]) {
    recorded = [...events, ...more];
    const { code, out, err } = await sallyport("export", "s1");
    expect([code, err, out.trim().split("\n").length]).toEqual([0, "", recorded.length]);
    expect((await sallyport("replay", "s1")).code).toBe(0);
  }
});

test("one that cannot be read to its end is cut by the gateway, and fails export and replay", async () => {
  recorded = events.slice(0, 2);
  failure = new Error("a chunk cannot be read");
  for (const line of [["export"], ["replay"], ["replay", "--json"]]) {
    const { code, err } = await sallyport(...line, "s1");
    expect([line, code, err]).toEqual([line, 1, expect.stringContaining("could not be read on after 2 of at least 3")]);
  }
  const address = `http://${server.host}:${server.port}/v1/sessions/s1/events`;
  const answer = await fetch(address, { headers: { authorization: "Bearer t" } });
  await expect(answer.text()).rejects.toThrow();
  expect(log.join("")).toContain("a chunk cannot be read");
  failure = undefined;
});

test("one that ends early without a sign is not taken for whole", async () => {
  recorded = events.slice(0, 2);
  for (const command of ["export", "replay"]) {
    const { code, err } = await sallyport(command, "s1");
    expect([command, code, err]).toEqual([command, 1, expect.stringContaining("ends after 2 of at least 3 events")]);
  }
});
