/**
 * A store of recorded sessions for tests and the benchmark: seeded, through the gateway's own analyser, session
 * pipeline and writer. People and agents of several groups read and write the demo's tables.
 */
import type { Logger } from "../../../gateway/log.ts";
import type { CommandAnalysis, IdentityInput } from "../../../gateway/policy/input.ts";
import type { Policy } from "../../../gateway/policy/policy.ts";
import { Recording } from "../../../gateway/recording/writer.ts";
import { Approvals } from "../../../gateway/session/approvals.ts";
import type { SessionDependencies, SessionStore } from "../../../gateway/session/dependencies.ts";
import { Novelty } from "../../../gateway/session/novelty.ts";
import { Rates } from "../../../gateway/session/rates.ts";
import { Session } from "../../../gateway/session/session.ts";
import { asItIs, quietHold } from "../../session-stand-ins.ts";
import { DryAnalyser } from "../dry-analyser.ts";
import { catalogOf, identityOf, identitySchema } from "../subject.ts";

export interface GeneratedStore {
  readonly file: string;
  readonly policy: Policy;
  readonly commands: number;
  readonly commandsPerSession: number;
  /** How many kinds of statement there are to choose of. */
  readonly statements: number;
  readonly seed: number;
}

/** mulberry32: the same numbers for the same seed. @returns from 0 to 1 */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const tables = {
  customers: ["id", "name", "email", "ssn", "birth_date", "country", "active", "created_at"],
  orders: ["id", "customer_id", "product", "amount", "status", "ordered_at"],
} as const;
const groups = [["analysts"], ["oncall"], ["dba"], ["analysts", "privacy"], ["oncall", "privacy"], []] as const;

function statementOf(random: () => number): string {
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const table = pick(["customers", "customers", "orders"] as const);
  const columns: readonly string[] = tables[table];
  const some = columns.filter(() => random() < 0.4);
  const list = (some.length > 0 ? some : ["id"]).join(", ");
  const where = random() < 0.8 ? ` where ${pick(columns)} is not null and id = $N` : "";
  const kind = random();
  if (kind < 0.62) return `select ${list} from ${table}${where}${random() < 0.4 ? ` order by ${pick(columns)}` : ""}`;
  if (kind < 0.7) return `select ${pick(["count", "max", "min"])}(${pick(columns)}) from ${table}${where}`;
  if (kind < 0.78)
    return `select c.name, o.${pick(tables.orders)} from customers c join orders o on o.customer_id = c.id`;
  if (kind < 0.82) return `select ${pick(["name", "email", "product"])} from customer_orders`;
  if (kind < 0.9) return `update ${table} set ${pick(columns)} = ${pick(columns)}${where}`;
  if (kind < 0.93) return `delete from ${table}${where}`;
  if (kind < 0.95) return `create index on ${table} (${pick(columns)})`;
  if (kind < 0.97) return `grant select on ${table} to public`;
  return `select pg_sleep(${Math.floor(random() * 9)}), ${pick(columns)} from ${table}`;
}

const identities = 60;

const noLog: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => noLog };

/** Whatever is held is approved every other time. */
class Deciders implements SessionStore {
  readonly #seen = new Set<string>();
  #asked = 0;
  async fingerprintSeen(...key: readonly string[]): Promise<boolean> {
    return this.#seen.has(key.join("\n"));
  }
  recordFingerprint(...key: readonly string[]): void {
    this.#seen.add(key.join("\n"));
  }
  async createApproval(): Promise<void> {}
  async getApproval() {
    this.#asked += 1;
    return { state: this.#asked % 2 === 0 ? "approved" : "denied", decisions: [] };
  }
  async consumeApproval(): Promise<boolean> {
    return true;
  }
  async expireApproval(): Promise<void> {}
}

/** Of the target "demo". @returns how many kinds of command (analyses) it chose of */
export async function generateStore(options: GeneratedStore): Promise<number> {
  const { policy } = options;
  const random = randomOf(options.seed);
  const analyser = new DryAnalyser(catalogOf("demo", "."), policy.labelsOf("demo"));
  const texts = [...new Set(Array.from({ length: options.statements * 2 }, () => statementOf(random)))];
  const statements = texts.slice(0, options.statements);
  const analyses = new Set<CommandAnalysis>();
  const recording = await Recording.open({ url: `file:${options.file}`, durability: "group", gateway: "generated" });
  const store = new Deciders();
  const dependencies: SessionDependencies = {
    verifier: { verify: () => Promise.reject(new Error("there are no tokens here")) },
    policies: { current: () => policy },
    recording: { session: (opened) => recording.session(opened) },
    store,
    log: noLog,
    gateway: "generated",
    redact: asItIs,
  };
  const shared = { approvals: new Approvals(store), novelty: new Novelty(store), rates: new Rates() };
  // Each identity has a few kinds of command of its own, which it runs most of the time, and now and then another.
  const own = Array.from({ length: identities }, () =>
    Array.from({ length: 60 }, () => Math.floor(random() * statements.length)),
  );
  for (let made = 0, number = 0; made < options.commands; number++) {
    const session = await Session.open(dependencies, shared, requestOf(number)).catch(() => undefined);
    if (session === undefined) continue;
    for (let n = 0; n < options.commandsPerSession && made < options.commands; n++, made++) {
      const usual = own[number % identities] ?? [];
      const at =
        random() < 0.95 ? usual[Math.floor(random() ** 2 * usual.length)] : Math.floor(random() * statements.length);
      const text = (statements[at ?? 0] ?? "").replaceAll("$N", String(made));
      const { command: analysis } = analyser.analyse(text);
      analyses.add(analysis);
      const ruling = await session.authorise(
        { text, analysis, labels: analyser.labels, params: [], via: "query" },
        quietHold,
      );
      if (ruling.kind !== "permitted") continue;
      const { permit } = ruling;
      const { command } = permit;
      const rows = Array.from({ length: 5 }, (_, row) => [`value ${row} of ${made}`, String(made + row)]);
      session.record({ type: "rows", command, rows });
      session.record({ type: "result", at: Date.now(), command, tag: "SELECT 5", rows: 5, bytes: 300 });
      session.finish(permit, "ok");
    }
    await session.committed();
    await session.close("client");
  }
  await recording.close();
  return analyses.size;
}

function requestOf(number: number) {
  const who = number % identities;
  const identity: IdentityInput = identityOf(
    identitySchema.parse({
      email: `user${who}@example.com`,
      groups: [...(groups[who % groups.length] ?? [])],
      kind: who % 3 === 2 ? "agent" : "human",
    }),
  );
  return {
    authenticated: { identity, expiresAtMs: Number.MAX_SAFE_INTEGER, graceMs: 0 },
    target: { name: "demo", kind: "postgres", database: "app", labels: {} },
    client: { address: "127.0.0.1", application: "generated" },
    context: { reason: "", prompt: "", ticket: "", trace: "" },
  };
}
