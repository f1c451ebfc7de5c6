/** What of a command is kept, and that nothing of a secret is, wherever the cut falls. */
import { expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/postgres/lowered-limits.ts";
import { createLogger } from "../log.ts";
import type { RecordedEvent } from "../recording/events.ts";
import { redactSecrets } from "../recording/redaction.ts";
import { Approvals } from "./approvals.ts";
import type { SessionStore } from "./dependencies.ts";
import { Novelty } from "./novelty.ts";
import { Session } from "./session.ts";

/** The intent that is recorded of an allowed command. */
async function recorded(text: string, params: (string | null)[]) {
  const events: RecordedEvent[] = [];
  const store: SessionStore = {
    fingerprintSeen: async () => true,
    recordFingerprint: () => undefined,
    createApproval: async () => undefined,
    getApproval: async () => undefined,
    consumeApproval: async () => false,
    expireApproval: async () => undefined,
  };
  const session = await Session.open(
    {
      verifier: { verify: () => Promise.reject(new Error("not asked")) },
      policies: { current: () => policy },
      recording: {
        session: () => ({
          append: (event) => void events.push(event),
          committed: () => undefined,
          close: async () => undefined,
        }),
      },
      store,
      log: createLogger({ level: "error" }),
      gateway: "g",
      redact: redactSecrets,
    },
    { approvals: new Approvals(store), novelty: new Novelty(store) },
    {
      authenticated: {
        identity: { issuer: "i", subject: "ann", email: "ann@example.com", groups: [], kind: "human", claims: {} },
        expiresAtMs: Date.now() + 60_000,
        graceMs: 0,
      },
      target: { name: "db", kind: "postgres", database: "app", labels: {} },
      client: { address: "127.0.0.1", application: "" },
      context: { reason: "", prompt: "", ticket: "", trace: "" },
    },
  );
  const analysis = { kind: "sql" as const, fingerprint: "f", complete: true, incomplete: [], statements: [] };
  await session.authorise(
    { text, analysis, params, via: "query" },
    { notify: () => undefined, signal: new AbortController().signal },
  );
  const intent = events.find((event) => event.type === "intent");
  if (intent?.type !== "intent") throw new Error("no intent");
  return intent;
}
const decision = { verdict: "allow" as const, rules: [], masks: [], diagnostics: "full" as const };
const policy = {
  revision: { digest: "sha256:test" },
  labelsOf: () => new Map<string, string[]>(),
  judgeSession: () => decision,
  forSession: () => ({ judge: () => ({ decision }) }),
};

test("a text and each parameter are recorded up to their limits", async () => {
  using _ = loweredLimits({ recordedTextBytesMax: 20, recordedParameterBytesMax: 10 });
  const { text, params } = await recorded("select 1".padEnd(21, "x"), ["x".repeat(10), "x".repeat(11), null]);
  expect(text).toBe("select 1".padEnd(20, "x"));
  expect(params).toEqual(["x".repeat(10), "x".repeat(10), null]);
});

test("a secret that the cut of a text or parameter falls into leaves no part of itself", async () => {
  const secret = `ghp_${"A1b2C3d4E5".repeat(4)}`;
  using _ = loweredLimits({ recordedTextBytesMax: 30, recordedParameterBytesMax: 30 });
  const { text, params } = await recorded(`select '${secret}'`, [`a value with ${secret}`]);
  expect(text).not.toContain("A1b2");
  expect(params[0]).not.toContain("A1b2");
});
