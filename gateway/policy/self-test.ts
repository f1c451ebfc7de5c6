/**
 * What a policy must answer before it is put in force: a valid decision, whatever it is, for a few made-up inputs.
 */
import { GatewayError } from "../errors.ts";
import type { CommandAnalysis, IdentityKind, NowInput, StatementClass, StatementInput } from "./input.ts";
import type { Policy } from "./policy.ts";
import type { SessionBase } from "./visible-input.ts";

const now: NowInput = { rfc3339: "2026-01-05T12:00:00Z", weekday: "Monday", hour: 12, time: "12:00" };
const digest = `sha256:${"0".repeat(64)}`;

function base(kind: IdentityKind, target: string): SessionBase {
  return {
    identity: {
      issuer: "https://idp.invalid",
      subject: "self-test",
      email: "",
      groups: ["self-test"],
      kind,
      claims: {},
    },
    target: { name: target, kind: "postgres", database: "self-test", labels: { env: "prod" } },
    session: {
      id: "self-test",
      client: { address: "127.0.0.1", application: "" },
      context: { reason: "", prompt: "", ticket: "", trace: "" },
    },
  };
}

function statement(verb: string, statementClass: StatementClass): StatementInput {
  const reads = statementClass === "read";
  return {
    verb,
    class: statementClass,
    relations: [{ schema: "public", name: "customers", access: reads ? "read" : "write", labels: ["pii"] }],
    columns: [
      { schema: "public", table: "customers", column: "email", labels: ["pii"], use: reads ? "output" : "write" },
    ],
    functions: ["pg_catalog.lower"],
    bounded: reads,
    limit: reads ? 10 : null,
    features: [],
  };
}

function analysis(statements: readonly StatementInput[], complete = true): CommandAnalysis {
  const incomplete = complete ? [] : ["self-test"];
  return { kind: "sql", fingerprint: digest, complete, incomplete, statements };
}

const commands: readonly CommandAnalysis[] = [
  analysis([statement("SELECT", "read")]),
  analysis([statement("UPDATE", "write"), statement("DROP", "ddl")]),
  analysis([statement("GRANT", "dcl")]),
  analysis([], false),
];

/** Throws `policy.bundle_invalid` with the fault as its cause. */
export function selfTest(policy: Policy): void {
  const names = typeof policy.data.targets === "object" && policy.data.targets !== null ? policy.data.targets : {};
  const targets = ["self-test", ...Object.keys(names).slice(0, 10)];
  try {
    for (const target of targets) {
      for (const kind of ["human", "agent"] as const) {
        const session = base(kind, target);
        policy.judgeSession({ ...session, now });
        const judge = policy.forSession(session);
        for (const command of commands) judge.judge(command, { digest, novel: true, params: ["1", null] }, now);
      }
    }
  } catch (cause) {
    const reason = cause instanceof GatewayError ? cause.message : "a fault";
    throw new GatewayError("policy.bundle_invalid", `policy bundle: fails its self-test: ${reason}`, { cause });
  }
}
