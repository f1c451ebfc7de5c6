/** The pipeline's own refusals; what of a command is kept, and that nothing of a secret is, wherever the cut falls. */
import { describe, expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { emptyStore, quietHold, recordingInto } from "../../scripts/session-stand-ins.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { createLogger } from "../log.ts";
import type { Decision } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { RecordedEvent } from "../recording/events.ts";
import { redactSecrets, redactStatement } from "../recording/redaction.ts";
import { Approvals } from "./approvals.ts";
import type { PolicyRevision } from "./dependencies.ts";
import { Novelty } from "./novelty.ts";
import { Rates } from "./rates.ts";
import { requirePermit, Session } from "./session.ts";

const decision = { verdict: "allow" as const, rules: [], masks: [], diagnostics: "full" as const };
const analysis: CommandAnalysis = { kind: "sql", fingerprint: "f", complete: true, incomplete: [], statements: [] };
const approve = (from: string): Decision => ({
  ...{ ...decision, verdict: "approve", approval: { from: [from], count: 1, ttl: "1m" } },
});
/** Where each approval that is asked for has been given. */
const approved = {
  ...emptyStore,
  getApproval: async () => ({ state: "approved", decisions: [] }),
  consumeApproval: async () => true,
};

/** A session of somebody whom policy allows everything, but for what is given; and what is recorded of it. */
async function open(policy: Partial<PolicyRevision> = {}, expiresAtMs = Date.now() + 60_000, approvals = emptyStore) {
  const events: RecordedEvent[] = [];
  const current: PolicyRevision = {
    revision: { digest: "sha256:test" },
    labelsOf: () => new Map(),
    judgeSession: () => decision,
    forSession: () => ({ judge: () => ({ decision }) }),
    ...policy,
  };
  const session = Session.open(
    {
      verifier: { verify: () => Promise.reject(new Error("not asked")) },
      policies: { current: () => current },
      recording: recordingInto(events),
      store: emptyStore,
      log: createLogger({ write: () => undefined }),
      gateway: "g",
      redact: { statement: redactStatement, value: redactSecrets },
    },
    { approvals: new Approvals(approvals), novelty: new Novelty(emptyStore), rates: new Rates() },
    {
      authenticated: {
        identity: { issuer: "i", subject: "ann", email: "ann@example.com", groups: [], kind: "human", claims: {} },
        expiresAtMs,
        graceMs: 0,
      },
      target: { name: "db", kind: "postgres", database: "app", labels: {} },
      client: { address: "127.0.0.1", application: "" },
      context: { reason: "", prompt: "", ticket: "", trace: "" },
    },
  );
  return { session, events };
}

const request = { text: "select 1", analysis, labels: new Map(), params: [], via: "query" };

/** The intent that is recorded of an allowed command. */
async function recorded(text: string, params: (string | null)[], change: Partial<CommandAnalysis> = {}) {
  const { session, events } = await open();
  await (await session).authorise({ ...request, text, params, analysis: { ...analysis, ...change } }, quietHold);
  const intent = events.find((event) => event.type === "intent");
  if (intent?.type !== "intent") throw new Error("no intent");
  return intent;
}

test("a session that policy does not allow is not opened, and its refusal is recorded", async () => {
  const refusal = { ...decision, verdict: "deny" as const, rules: [{ id: "no.group", message: "nobody" }] };
  const { session, events } = await open({ judgeSession: () => refusal });
  await expect(session).rejects.toMatchObject({ code: "session.denied" });
  expect(events).toMatchObject([
    { type: "session.opened", verdict: "deny", rules: refusal.rules },
    { type: "session.closed", reason: "denied" },
  ]);
});

test("a policy that fails denies the command, and says so in the recording", async () => {
  const judge = () => {
    throw new GatewayError("policy.evaluation_failed", "aborted");
  };
  const { session, events } = await open({ forSession: () => ({ judge }) });
  expect(await (await session).authorise(request, quietHold)).toMatchObject({ kind: "denied" });
  expect(events).toContainEqual(
    expect.objectContaining({
      ...{ type: "intent", verdict: "deny", forwarded: false },
      rules: [expect.objectContaining({ id: "sallyport.policy.evaluation_failed" })],
    }),
  );
});

test("nothing is judged once the token has expired", async () => {
  const { session } = await open({}, Date.now() - 1);
  const opened = await session;
  expect(() => opened.authorise(request, quietHold)).toThrow(expect.objectContaining({ code: "session.expired" }));
});

describe("a command that was held is judged again when it was approved, as policy may look at the time", () => {
  test.each([
    ["the same approval runs it", approve("dba"), { kind: "permitted" }],
    ["what is allowed by now runs", decision, { kind: "permitted" }],
    ["a window that closed denies it", { ...decision, verdict: "deny" as const }, { kind: "denied" }],
    ["others' approval is not had", approve("cto"), { kind: "denied", denial: { hint: "Run it again." } }],
  ])("%s", async (_, later, ruling) => {
    const decisions: Decision[] = [approve("dba"), later];
    const judge = () => ({ decision: decisions.shift() ?? decision });
    const { session, events } = await open({ forSession: () => ({ judge }) }, undefined, approved);
    expect(await (await session).authorise(request, quietHold)).toMatchObject(ruling);
    expect(decisions).toBeEmpty();
    // Both judgements are recorded: an outcome alone would not tell why what people approved did not run.
    const judgements = events.filter((event) => event.type === "intent");
    expect(judgements.map(({ verdict, forwarded }) => [verdict, forwarded])).toEqual([
      ["approve", false],
      [later.verdict, ruling.kind === "permitted"],
    ]);
  });
});

test("of a held command whose names changed the recording says so", async () => {
  const judge = () => ({ decision: approve("dba") });
  const { session, events } = await open({ forSession: () => ({ judge }) }, undefined, approved);
  const hold = { ...quietHold, stillMeans: async () => "other" as const };
  expect(await (await session).authorise(request, hold)).toMatchObject({ kind: "denied" });
  expect(events.at(-1)).toMatchObject({ type: "outcome", refused: { id: "sallyport.names_changed" } });
});

describe("what approvers see", () => {
  const judge = () => ({ decision: approve("dba") });
  async function held(change: Partial<Parameters<Session["authorise"]>[0]>) {
    const shown: string[] = [];
    const store = {
      ...approved,
      createApproval: async ({ text }: { text: string }) => void shown.push(text),
    };
    const { session } = await open({ forSession: () => ({ judge }) }, undefined, store);
    const ruling = await (await session).authorise({ ...request, ...change }, quietHold);
    return { ruling, shown };
  }

  test("is the whole command: what it stands for, and each parameter on a line of its own", async () => {
    const { shown } = await held({
      ...{ text: "execute w", standsFor: ["update t set a = $1"] },
      params: ["1\n-- $2 = 2", null, "x".repeat(limits.approvalParameterLengthMax + 1)],
    });
    const x = "x".repeat(limits.approvalParameterLengthMax);
    expect(shown[0]?.split("\n")).toEqual([
      ...['-- $1 = "1\\n-- $2 = 2"', "-- $2 = NULL", `-- $3 = "${x}" … (the first 1000 of 1001 characters)`, ""],
      ...["execute w", "", "-- which stands for:", "update t set a = $1"],
    ]);
  });

  test("is all SQL, however it would look like a secret", async () => {
    const text = "update t set a = 1 where id = 1 /*-----BEGIN PRIVATE KEY-----*/ or/*pwd=*/true or/*://a:*/b/*@*/";
    const { shown } = await held({ text });
    for (const part of ["where id = 1", "*/ or/*", "*/true or/*", "*/b/*"]) expect(shown[0]).toContain(part);
  });

  const key = "-----BEGIN PRIVATE KEY-----";
  test.each([
    `select 1 /* /* */ ' */ or id > 0 -- ' ${key}`,
    `select 1 as a$b$, 2 where c > 0 /* $b$ ${key} */`,
    `select 1 as nameE, ty'\\' or id > 0 -- '${key}`,
    `select $€$ ' ${key} $€$ where id > 0 -- '`,
    `select '${key}' where id > 0`,
    `select "${key}" where id > 0`,
    `select E'\\'${key}' where id > 0`,
    `select $t$ ${key} $t$ where id > 0`,
  ])("has what is no literal, name or comment: %s", async (text) => {
    const { shown } = await held({ text });
    expect(shown[0]).toMatch(/ > 0/);
    expect(shown[0]).not.toContain("PRIVATE");
  });

  test("is not more than anybody can read: a longer command is denied", async () => {
    const text = `select 1 --${" ".repeat(limits.approvalTextLengthMax)}`;
    const { shown, ruling } = await held({ text });
    expect(shown).toEqual([]);
    expect(ruling).toMatchObject({ kind: "denied", denial: { message: expect.stringContaining("too long") } });
  });
});

test("an approval that expires before its command can run is of no use", async () => {
  const judge = () => ({ decision: { ...approve("dba"), approval: { from: ["dba"], count: 1, ttl: "1s" } } });
  const { session, events } = await open({ forSession: () => ({ judge }) }, undefined, approved);
  const hold = { ...quietHold, stillMeans: () => Bun.sleep(1_100).then(() => "same" as const) };
  expect(await (await session).authorise(request, hold)).toMatchObject({ kind: "denied" });
  expect(events.at(-1)).toMatchObject({ type: "outcome", status: "denied", refused: { id: "sallyport.approval" } });
});

test("who denies a command may say why: its caller is told, without what drives a terminal, and it is recorded", async () => {
  const judge = () => ({ decision: approve("dba") });
  const dora = { issuer: "i", subject: "dora", email: "dora@example.com", at: 1 };
  const decisions = [{ ...dora, decision: "deny", reason: "use the view\n\u001b[2J" }];
  const denied = { ...emptyStore, getApproval: async () => ({ state: "denied", decisions }) };
  const { session, events } = await open({ forSession: () => ({ judge }) }, undefined, denied);
  const ruling = await (await session).authorise(request, quietHold);
  const message = expect.stringMatching(/^approval ap-\w+ was denied by dora@example\.com: use the view \[2J$/);
  expect(ruling).toMatchObject({ kind: "denied", denial: { message } });
  expect(events.find((event) => event.type === "approval")).toMatchObject({
    approval: { by: [{ ...dora, reason: "use the view\n\u001b[2J" }] },
  });
});

test("one held command too many is denied, and the session goes on", async () => {
  using _ = loweredLimits({ approvalsPendingMax: 0 });
  const judge = () => ({ decision: approve("dba") });
  const { session } = await open({ forSession: () => ({ judge }) }, undefined, approved);
  const ruling = await (await session).authorise(request, quietHold);
  expect(ruling).toMatchObject({ kind: "denied", denial: { message: "too many commands of yours wait for approval" } });
});

test("a permit is what the pipeline made, and nothing that looks like one", async () => {
  const ruling = await (await (await open()).session).authorise(request, quietHold);
  if (ruling.kind !== "permitted") throw new Error("denied");
  expect(() => requirePermit(ruling.permit)).not.toThrow();
  expect(() => requirePermit({ ...ruling.permit })).toThrow(/without a permit/);
});

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

describe("of what does not parse", () => {
  const hidden = "hunter2hunter2";
  const unparsed = (message: string) => ({ complete: false, incomplete: [message] });

  test.each([
    `set app.password to '${hidden}' oops`,
    `select set_config('app.password', '${hidden}', false) frm x x`,
    `select login(password => '${hidden}') frm x x`,
    `select login(password => '${hidden}`,
    `create user maping for a server s options (password '${hidden}')`,
    `alter user bob password '${hidden}' x x`,
    `select dblink('host=h password=ab''${hidden}') frm x x`,
  ])("no secret is recorded that a statement would lose, or a value: %s", async (text) => {
    const intent = await recorded(text, [], unparsed("syntax error"));
    expect(intent.text).toContain("<redacted>");
    expect(intent.text).not.toContain(hidden);
  });

  test.each([
    [`alter user bob password ${hidden}`, hidden],
    [`create user "bob" with login password "${hidden}"`, `"${hidden}"`],
    [`select login(password => '${hidden}`, `'${hidden}`],
    [`select 1 frm ghp_${hidden}${hidden}`, `ghp_${hidden}${hidden}`],
  ])("what the parser's message and the rules quote is recorded as far as the text is: %s", async (text, quoted) => {
    const message = `syntax error at or near "${quoted}"`;
    const rules = [{ id: "access.incomplete", message: `not understood: ${message}` }];
    const judge = () => ({ decision: { ...decision, verdict: "deny" as const, rules } });
    const { session, events } = await open({ forSession: () => ({ judge }) });
    const incomplete = { ...analysis, ...unparsed(message) };
    const ruling = await (await session).authorise({ ...request, text, analysis: incomplete }, quietHold);
    expect(JSON.stringify(events)).not.toContain(hidden);
    expect(events.map(({ type }) => type)).toEqual(["session.opened", "analysis", "intent", "outcome"]);
    // Who wrote it is told as PostgreSQL would.
    expect(ruling).toMatchObject({ kind: "denied", denial: { rules } });
  });

  test("its place is recorded where it is no secret", async () => {
    const { session, events } = await open();
    const incomplete = { ...analysis, ...unparsed('syntax error at or near "frm"') };
    await (await session).authorise({ ...request, text: "select 1 frm x", analysis: incomplete }, quietHold);
    expect(events).toContainEqual({ type: "analysis", id: 1, analysis: incomplete });
  });
});
