import { beforeEach, describe, expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { GatewayError } from "../errors.ts";
import { createLogger } from "../log.ts";
import type { IdentityInput } from "../policy/input.ts";
import { createApi } from "./app.ts";
import { createMetrics } from "./metrics.ts";
import type { ApiStore, ApprovalRecord, SessionRecord } from "./views.ts";

const idp = "https://idp.example";
const person = (subject: string, groups: string[], kind: "human" | "agent" = "human"): IdentityInput => ({
  issuer: idp,
  subject,
  email: `${subject}@example.com`,
  groups,
  kind,
  claims: {},
});
const people = new Map(
  [
    person("dana", ["dba"]),
    person("olga", ["sales"]),
    person("audrey", ["audit"]),
    person("agent-7", ["dba"], "agent"),
  ].map((identity) => [identity.subject, identity]),
);

const held: ApprovalRecord = {
  id: "ap-1",
  state: "pending",
  session: "s-agent",
  command: 1,
  issuer: idp,
  subject: "agent-7",
  email: "agent-7@example.com",
  target: "prod-db",
  text: "UPDATE accounts SET limit = 1 WHERE id = 7",
  digest: "sha256:00",
  revision: "sha256:01",
  from: ["dba"],
  count: 1,
  created: 1_000,
  expires: 100_000,
  decisions: [],
};
const session = (id: string, subject: string): SessionRecord => ({
  id,
  issuer: idp,
  subject,
  email: `${subject}@example.com`,
  kind: "human",
  target: "prod-db",
  openedAt: 1_000,
  closedAt: null,
  closeReason: null,
  commands: 2,
  events: 2,
});

let approval: ApprovalRecord;
let lines: string[];
let verifying: Promise<unknown>;
/** Chunks that a recording has more. */
let long: number;
const store: ApiStore = {
  listApprovals: async ({ state }) => (state === undefined || approval.state === state ? [approval] : []),
  getApproval: async (id) => (id === approval.id ? approval : undefined),
  async decideApproval({ decision, by, at }) {
    const state = decision === "approve" ? "approved" : "denied";
    approval = { ...approval, state, decisions: [...approval.decisions, { ...by, decision, at }] };
    return approval;
  },
  listSessions: async ({ subject }) =>
    [session("s-agent", "agent-7"), session("s-olga", "olga")].filter(
      (one) => subject === undefined || one.subject === subject,
    ),
  async searchSessions(query, text) {
    const all = await this.listSessions(query);
    return { sessions: text === "everything" ? all : [], next: "s-olga" };
  },
  getSession: async (id) => (id === "s-agent" ? session(id, "agent-7") : undefined),
  async *lines() {
    yield { lines: ['{"type":"session.opened"}', '{"type":"intent","text":"SELECT 1"}'] };
    for (let chunk = 0; chunk < long; chunk++) yield { lines: ["{}"] };
    yield { lines: ['{"type":"session.closed"}'] };
  },
};

const app = createApi({
  verifier: {
    async verify(token) {
      const identity = people.get(token);
      if (identity === undefined)
        throw new GatewayError("identity.signature_invalid", "The token's signature is not valid.");
      return { identity, expiresAtMs: 50_000, graceMs: 0 };
    },
  },
  store,
  log: createLogger({ write: (line) => void lines.push(line) }),
  metrics: createMetrics(),
  ready: () => ({ ok: false, checks: { store: "unreachable" } }),
  policyStatus: () => ({ revision: { digest: "sha256:01" }, lastError: "bundle refused" }),
  policyData: () => ({ auditors: ["audit"] }),
  verifySession: () => verifying,
  now: () => 10_000,
});

async function call(who: string | undefined, path: string, init: RequestInit = {}) {
  const headers = { ...init.headers, ...(who !== undefined && { authorization: `Bearer ${who}` }) };
  const response = await app.request(path, { ...init, headers });
  const text = await response.text();
  return { status: response.status, text, headers: response.headers };
}
const post = (who: string, action: string, body?: string, type = "application/json") =>
  call(who, `/v1/approvals/ap-1/${action}`, {
    method: "POST",
    ...(body !== undefined && { body, headers: { "content-type": type } }),
  });

/** A stream of approvals that has begun, or was refused. */
async function follow(who: string) {
  const response = await app.request("/v1/approvals/stream", { headers: { authorization: `Bearer ${who}` } });
  const reader = response.body?.getReader();
  await reader?.read();
  return { status: response.status, reader };
}

beforeEach(() => {
  approval = held;
  lines = [];
  long = 0;
  verifying = Promise.resolve({ ok: true });
});

describe("the API", () => {
  test("every address under /v1 needs a valid token; health and metrics need none", async () => {
    for (const path of [
      "whoami",
      "status",
      "approvals",
      "approvals/ap-1",
      "approvals/stream",
      "sessions",
      "sessions/s-agent/events",
    ]) {
      expect((await call(undefined, `/v1/${path}`)).status).toBe(401);
      expect((await call("nobody", `/v1/${path}`)).status).toBe(401);
    }
    expect((await call(undefined, "/healthz")).status).toBe(200);
    expect((await call(undefined, "/metrics")).status).toBe(200);
    expect((await call(undefined, "/readyz")).status).toBe(503);
  });

  test("a token in clear from another machine is refused, whosever it is; health needs none", async () => {
    for (const who of ["dana", "nobody"]) {
      const headers = { authorization: `Bearer ${who}` };
      const answer = await app.request("/v1/whoami", { headers }, { isInClear: true });
      expect([answer.status, await answer.text()]).toEqual([403, expect.stringContaining("protocol.tls_required")]);
    }
    expect((await app.request("/healthz", {}, { isInClear: true })).status).toBe(200);
  });

  test("answers carry security headers and no cross-origin permission", async () => {
    const { headers } = await call("dana", "/v1/whoami", { headers: { origin: "https://evil.example" } });
    expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("access-control-allow-origin")).toBeNull();
  });

  test("errors are JSON with a code, and an unknown address is 404", async () => {
    const { status, text } = await call("dana", "/v1/nothing");
    expect([status, JSON.parse(text).error.code]).toEqual([404, "api.not_found"]);
  });

  test("an approver approves once", async () => {
    const { status, text } = await post("dana", "approve", '{"reason":"ticket 7"}');
    expect([status, JSON.parse(text).state]).toEqual([200, "approved"]);
    expect((await post("dana", "approve")).status).toBe(409);
  });

  test("the requester, an agent, cannot approve, and an auditor sees but cannot decide", async () => {
    expect((await post("agent-7", "approve")).status).toBe(403);
    expect((await call("audrey", "/v1/approvals/ap-1")).status).toBe(200);
    expect((await post("audrey", "deny")).status).toBe(403);
    expect(approval.state).toBe("pending");
  });

  test("what someone may not see does not exist for them", async () => {
    expect((await call("olga", "/v1/approvals/ap-1")).status).toBe(404);
    expect((await post("olga", "approve")).status).toBe(404);
    expect(JSON.parse((await call("olga", "/v1/approvals")).text).approvals).toEqual([]);
    expect((await call("olga", "/v1/sessions/s-agent")).status).toBe(404);
    expect((await call("olga", "/v1/sessions/s-agent/events")).status).toBe(404);
    expect((await call("olga", "/v1/sessions/s-agent/verify")).status).toBe(404);
  });

  test("a caller lists its own sessions, an auditor all", async () => {
    const ids = async (who: string, query: string) =>
      JSON.parse((await call(who, `/v1/sessions${query}`)).text).sessions.map((one: { id: string }) => one.id);
    for (const query of ["", "?text=everything"]) {
      expect(await ids("olga", query)).toEqual(["s-olga"]);
      expect(await ids("audrey", query)).toEqual(["s-agent", "s-olga"]);
    }
    expect(JSON.parse((await call("audrey", "/v1/sessions?text=nothing")).text)).toEqual({
      sessions: [],
      next: "s-olga",
    });
  });

  test("events stream as JSON lines, up to the page", async () => {
    const all = await call("audrey", "/v1/sessions/s-agent/events");
    expect(all.text.split("\n").map((line) => line && JSON.parse(line).type)).toEqual([
      ...["session.opened", "intent", "session.closed", ""],
    ]);
    for (const limit of [1, 2, 3])
      expect((await call("audrey", `/v1/sessions/s-agent/events?limit=${limit}`)).text).toBe(
        all.text.split("\n", limit).join("\n").concat("\n"),
      );
  });

  test("a recording is sent in turns, and others have theirs", async () => {
    long = 50;
    let turns = 0;
    const turn = () => {
      turns += 1;
      if (turns < 1_000) setImmediate(turn);
    };
    setImmediate(turn);
    expect((await call("audrey", "/v1/sessions/s-agent/events")).text.split("\n")).toHaveLength(3 + long + 1);
    expect(turns).toBeGreaterThan(long);
    turns = 1_000;
  });

  test("a reader who leaves in the middle of a recording is no failure", async () => {
    long = 1_000;
    for (let waited = 0; waited < 20; waited++) {
      const response = await app.request("/v1/sessions/s-agent/events", {
        headers: { authorization: "Bearer agent-7" },
      });
      const reader = response.body?.getReader();
      await reader?.read();
      for (let turn = 0; turn < waited % 4; turn++) await new Promise(setImmediate);
      await reader?.cancel();
    }
    await Bun.sleep(20);
    expect(lines.filter((line) => line.includes("could not be streamed"))).toEqual([]);
  });

  test("one stream too many is refused, and one that ended makes room", async () => {
    using _ = loweredLimits({ apiStreamsMax: 2 });
    const streams = [await follow("dana"), await follow("olga")];
    expect(streams.map(({ status }) => status)).toEqual([200, 200]);
    expect((await follow("dana")).status).toBe(429);
    await streams[0]?.reader?.cancel();
    await Bun.sleep(50);
    streams.push(await follow("dana"));
    expect(streams.at(-1)?.status).toBe(200);
    for (const { reader } of streams) await reader?.cancel();
  });

  test("one stream too many of an identity is refused, another's is served, and one that ended makes room", async () => {
    using _ = loweredLimits({ apiStreamsPerIdentityMax: 2 });
    const streams = [await follow("agent-7"), await follow("agent-7")];
    expect((await follow("agent-7")).status).toBe(429);
    streams.push(await follow("dana"));
    await streams[0]?.reader?.cancel();
    await Bun.sleep(50);
    streams.push(await follow("agent-7"));
    expect(streams.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    for (const { reader } of streams) await reader?.cancel();
  });

  test("a stream asked for by HEAD, which nobody would read, is refused and takes no place", async () => {
    using _ = loweredLimits({ apiStreamsPerIdentityMax: 1, apiExportsPerIdentityMax: 1 });
    for (const path of ["/v1/approvals/stream", "/v1/sessions/s-agent/events"])
      for (let count = 0; count < 2; count++)
        expect((await call("agent-7", path, { method: "HEAD" })).status).toBe(400);
    const { status, reader } = await follow("agent-7");
    expect(status).toBe(200);
    await reader?.cancel();
    expect((await call("agent-7", "/v1/sessions/s-agent/events")).status).toBe(200);
  });

  test("one request too many, of all or of an identity, is refused, and one that was answered makes room", async () => {
    using _ = loweredLimits({ apiRequestsMax: 3, apiRequestsPerIdentityMax: 2 });
    const answer = Promise.withResolvers<unknown>();
    verifying = answer.promise;
    const verify = (who: string) => call(who, "/v1/sessions/s-agent/verify");
    const waiting = [verify("agent-7"), verify("agent-7")];
    expect((await call("agent-7", "/v1/whoami")).status).toBe(429);
    waiting.push(verify("audrey"));
    expect((await call("dana", "/v1/whoami")).status).toBe(429);
    answer.resolve({ ok: true });
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await call("agent-7", "/v1/whoami")).status).toBe(200);
  });

  test("one recording too many to be sent is refused, of all or of an identity; one that ended makes room", async () => {
    using _ = loweredLimits({ apiExportsMax: 3, apiExportsPerIdentityMax: 2 });
    const fetched = async (who: string) =>
      app.request("/v1/sessions/s-agent/events", { headers: { authorization: `Bearer ${who}` } });
    const sent = [await fetched("agent-7"), await fetched("agent-7")];
    expect((await fetched("agent-7")).status).toBe(429);
    sent.push(await fetched("audrey"));
    expect((await fetched("audrey")).status).toBe(429);
    expect(sent.map(({ status }) => status)).toEqual([200, 200, 200]);
    await sent[0]?.body?.cancel();
    await sent[1]?.text();
    expect((await call("agent-7", "/v1/sessions/s-agent/events")).status).toBe(200);
    expect((await call("audrey", "/v1/sessions/s-agent/events")).status).toBe(200);
    await sent[2]?.text();
  });

  test("a malformed query, body or content type is refused, and an oversized body too", async () => {
    for (const query of ["limit=0", "limit=1001", "verdict=maybe", "since=yesterday", "nope=1", "who=a&who=b"])
      expect((await call("audrey", `/v1/sessions?${query}`)).status).toBe(400);
    expect((await post("dana", "approve", "{")).status).toBe(400);
    expect((await post("dana", "approve", '{"other":1}')).status).toBe(400);
    expect((await post("dana", "approve", "{}", "text/plain")).status).toBe(400);
    expect((await post("dana", "approve", `{"reason":"${"x".repeat(70_000)}"}`)).status).toBe(413);
    expect(approval.state).toBe("pending");
  });
});
