import { describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { limits } from "../limits.ts";
import { readArchive } from "./archive.ts";
import { loadBundle } from "./bundle.ts";
import { PolicyHost } from "./host.ts";
import type { CommandAnalysis, NowInput, StatementInput } from "./input.ts";
import { Policy } from "./policy.ts";
import type { SessionBase } from "./visible-input.ts";

const now: NowInput = { rfc3339: "2026-01-05T09:00:00Z", weekday: "Monday", hour: 9, time: "09:00" };
const rest = { digest: `sha256:${"ab".repeat(32)}`, novel: false, params: [] };
const session: SessionBase = {
  identity: { issuer: "i", subject: "s", email: "", groups: ["analysts"], kind: "human", claims: {} },
  target: { name: "prod", kind: "postgres", database: "d", labels: {} },
  session: {
    id: "1",
    client: { address: "", application: "" },
    context: { reason: "", prompt: "", ticket: "", trace: "" },
  },
};
const analysis = (complete = true): CommandAnalysis =>
  Object.freeze({ kind: "sql", fingerprint: "sha256:00", complete, incomplete: [], statements: [] });
const fixture = (name: string): string => join(import.meta.dir, "../../fixtures/policy", `${name}.tar.gz`);
const policy = async (name: string): Promise<Policy> => new Policy(await loadBundle({ bundle: fixture(name) }));

async function withFile<T>(name: string, content: string | Uint8Array, use: (path: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "policy-"));
  try {
    await Bun.write(join(directory, name), content);
    return await use(join(directory, name));
  } finally {
    await rm(directory, { recursive: true });
  }
}

describe("evaluation", () => {
  test("an undefined decision is a deny that names its rule", async () => {
    const { decision } = (await policy("undefined")).forSession(session).judge(analysis(), rest, now);
    expect(decision.verdict).toBe("deny");
    expect(decision.rules[0]?.id).toBe("sallyport.undefined");
  });
  test("a decision outside the schema, or a mask without masks, is refused", async () => {
    const judge = (await policy("malformed")).forSession(session);
    for (const complete of [true, false]) {
      expect(() => judge.judge(analysis(complete), rest, now)).toThrow(
        expect.objectContaining({ code: "policy.decision_invalid" }),
      );
    }
  });
  test("an abort is a fault, and the next evaluation works", async () => {
    const judge = (await policy("abort")).forSession(session);
    expect(() => judge.judge(analysis(false), rest, now)).toThrow(
      expect.objectContaining({ code: "policy.evaluation_failed" }),
    );
    expect(judge.judge(analysis(true), rest, now).decision.verdict).toBe("allow");
  });
  test("several masks on a column resolve to the strongest, sorted and frozen", async () => {
    const { decision } = (await policy("masks")).forSession(session).judge(analysis(), rest, now);
    expect(decision.masks).toEqual([
      { column: "public.p.a", with: "redact" },
      { column: "public.p.b", with: "hash" },
    ]);
    expect(Object.isFrozen(decision.masks[0])).toBe(true);
  });
  test("an input over the limit is refused", async () => {
    const judge = (await policy("unknown-paths")).forSession(session);
    const ask = (bytes: number) => judge.judge(analysis(), { ...rest, params: ["x".repeat(bytes)] }, now);
    // A parameter of a client's largest message, in hex.
    expect(ask(2 * limits.clientMessageBytesMax).decision.verdict).toBe("allow");
    expect(() => ask(limits.policyInputBytesMax)).toThrow(expect.objectContaining({ code: "policy.input_too_large" }));
  });
  test("a command that names more than the limit is refused", async () => {
    const judge = (await policy("unknown-paths")).forSession(session);
    const ask = (count: number) => {
      const statement: StatementInput = {
        ...{ verb: "SELECT", class: "read", relations: [], columns: [], features: [], bounded: true, limit: null },
        functions: Array.from({ length: count }, (_, index) => `f${index}`),
      };
      // What is named twice counts once.
      return judge.judge({ ...analysis(), statements: [statement, statement] }, rest, now);
    };
    expect(ask(limits.policyInputNamesMax).decision.verdict).toBe("allow");
    expect(() => ask(limits.policyInputNamesMax + 1)).toThrow(
      expect.objectContaining({ code: "policy.input_too_large" }),
    );
  });
  test("an evaluation that needs more memory than the limit is a fault, and the next works", async () => {
    using _ = loweredLimits({ policyMemoryPagesMax: 24 });
    const judge = (await policy("unknown-paths")).forSession(session);
    const ask = (bytes: number) => judge.judge(analysis(), { ...rest, params: ["x".repeat(bytes)] }, now);
    expect(() => ask(1_000_000)).toThrow(expect.objectContaining({ code: "policy.evaluation_failed" }));
    expect(ask(1_000).decision.verdict).toBe("allow");
  });
  test("lone surrogates are replaced, in values and keys", async () => {
    const claims = { "\ud800": "\udfff" };
    const judge = (await policy("unknown-paths")).forSession({ ...session, identity: { ...session.identity, claims } });
    expect(judge.judge(analysis(), { ...rest, params: ["\ud83d"] }, now).decision.verdict).toBe("allow");
  });
});

describe("the decision cache", () => {
  test("answers again only where every visible value is equal", async () => {
    const loaded = await policy("known-paths");
    const shared = analysis();
    const judge = loaded.forSession(session);
    expect(judge.judge(shared, rest, now)).toMatchObject({ cached: false, decision: { verdict: "allow" } });
    expect(judge.judge(shared, { ...rest, digest: "sha256:ff" }, now).cached).toBe(true);
    expect(judge.judge(analysis(), rest, now).cached).toBe(true);
    expect(judge.judge(shared, { ...rest, novel: true }, now)).toMatchObject({
      cached: false,
      decision: { verdict: "deny" },
    });
    expect(judge.judge(analysis(false), rest, now)).toMatchObject({ cached: false, decision: { verdict: "deny" } });
    const other = loaded.forSession({ ...session, identity: { ...session.identity, groups: ["others"] } });
    expect(other.judge(shared, rest, now)).toMatchObject({ cached: false, decision: { verdict: "deny" } });
  });
  test("is not used where the manifest says nothing", async () => {
    const judge = (await policy("unknown-paths")).forSession(session);
    expect(judge.judge(analysis(), rest, now).decision.verdict).toBe("allow");
    expect(judge.judge(analysis(), rest, now).cached).toBe(false);
    expect(judge.judge(analysis(), rest, { ...now, hour: 13 }).decision.verdict).toBe("deny");
  });
  test("answers for the hour that the policy saw, and for no other", async () => {
    const judge = (await policy("sees-now")).forSession(session);
    expect(judge.judge(analysis(), rest, now).decision.verdict).toBe("allow");
    const later = { ...now, rfc3339: "2026-01-05T09:59:59Z", weekday: "Tuesday" };
    expect(judge.judge(analysis(), rest, later)).toMatchObject({ cached: true, decision: { verdict: "allow" } });
    expect(judge.judge(analysis(), rest, { ...now, hour: 13 })).toMatchObject({
      cached: false,
      decision: { verdict: "deny" },
    });
    expect(judge.judge(analysis(), rest, now)).toMatchObject({ cached: true, decision: { verdict: "allow" } });
  });
});

describe("the bundle", () => {
  test("merges the deployment's data: maps merge, lists replace, and the revision changes", async () => {
    const yaml = "readers: [others]\ntargets: { prod: { labels: { public.people.name: [pii] } } }\n";
    const plain = await policy("known-paths");
    const merged = await withFile(
      "data.yaml",
      yaml,
      async (data) => new Policy(await loadBundle({ bundle: fixture("known-paths"), data })),
    );
    expect(merged.data).toMatchObject({ readers: ["others"] });
    expect([...merged.labelsOf("prod").keys()].sort()).toEqual(["public.people.email", "public.people.name"]);
    expect(merged.revision.digest).not.toBe(plain.revision.digest);
  });
  test("that is cut short or no archive is refused", async () => {
    const whole = new Uint8Array(await Bun.file(fixture("masks")).arrayBuffer());
    for (const bytes of [whole.subarray(0, whole.length / 2), new Uint8Array(10), Bun.gzipSync(new Uint8Array(0))]) {
      await withFile("bundle.tar.gz", bytes, async (bundle) => {
        await expect(loadBundle({ bundle })).rejects.toMatchObject({ code: "policy.bundle_invalid" });
      });
    }
  });
  test("that is larger than the limit, packed or unpacked, is refused", async () => {
    const packed = await Bun.file(fixture("masks")).bytes();
    const unpackedBytes = Bun.gunzipSync(packed).byteLength;
    const load = (bundleBytesMax: number) => {
      using _ = loweredLimits({ bundleBytesMax });
      return readArchive(packed).size;
    };
    expect(unpackedBytes).toBeGreaterThan(packed.byteLength);
    expect(load(unpackedBytes)).toBeGreaterThan(0);
    expect(() => load(unpackedBytes - 1)).toThrow(/once unpacked/);
    expect(() => load(packed.byteLength - 1)).toThrow(/larger than/);
    using _ = loweredLimits({ bundleBytesMax: packed.byteLength - 1 });
    await expect(loadBundle({ bundle: fixture("masks") })).rejects.toThrow(/exceeds/);
  });
});

describe("the host", () => {
  test("keeps the old policy when the new one is invalid, and tells listeners when it changes", async () => {
    await withFile("bundle.tar.gz", await Bun.file(fixture("masks")).bytes(), async (bundle) => {
      const host = await PolicyHost.load({ bundle });
      const before = host.current();
      let changes = 0;
      host.onChange(() => changes++);
      await Bun.write(bundle, "broken");
      await expect(host.reload()).rejects.toMatchObject({ code: "policy.bundle_invalid" });
      await Bun.write(bundle, Bun.file(fixture("malformed")));
      await expect(host.reload()).rejects.toMatchObject({ code: "policy.bundle_invalid" });
      expect(host.current()).toBe(before);
      await Bun.write(bundle, Bun.file(fixture("sees-now")));
      expect(await host.reload()).toBe(host.current());
      expect([host.current() === before, changes]).toEqual([false, 1]);
      host.stop();
    });
  });
});

test("the watchdog ends a process whose evaluation hangs, and names the command", async () => {
  const script = `import { Watchdog } from ${JSON.stringify(join(import.meta.dir, "watchdog.ts"))};
    import { loweredLimits } from ${JSON.stringify(join(import.meta.dir, "../../scripts/lowered-limits.ts"))};
    using _ = loweredLimits({ policyEvaluationMs: 200 });
    const watchdog = await Watchdog.start();
    for (let i = 0; i < 1000; i++) { watchdog.begin(""); watchdog.end(); }
    await Bun.sleep(400);
    watchdog.begin("${rest.digest}");
    for (;;) {}`;
  await withFile("hang.ts", script, async (path) => {
    const run = Bun.spawn([process.execPath, path], { stderr: "pipe", stdout: "ignore" });
    const stderr = await new Response(run.stderr).text();
    await run.exited;
    expect(run.signalCode).toBe("SIGKILL");
    expect(JSON.parse(stderr.trim())).toMatchObject({ code: "policy.timeout", command: rest.digest });
  });
});
