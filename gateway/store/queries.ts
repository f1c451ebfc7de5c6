/** What the gateway asks of its store, beside the recording. Races are decided here, by conditional updates. */
import {
  and,
  asc,
  count,
  countDistinct,
  desc,
  eq,
  gt,
  gte,
  inArray,
  like,
  lt,
  lte,
  max,
  notExists,
  or,
  type SQL,
  sql,
} from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database } from "./database.ts";
import { samePerson } from "./same-person.ts";
import { approvalDecisions, approvals, chunks, fingerprints, labelBindings, seals, sessions } from "./schema.ts";

export interface NewApproval {
  readonly id: string;
  readonly session: string;
  readonly command: number;
  readonly issuer: string;
  readonly subject: string;
  readonly email: string;
  readonly target: string;
  readonly text: string;
  readonly digest: string;
  readonly fingerprint: string;
  readonly revision: string;
  readonly from: readonly string[];
  readonly count: number;
  readonly created: number;
  readonly expires: number;
}

export interface DecideApproval {
  readonly id: string;
  readonly decision: "approve" | "deny";
  readonly by: { readonly issuer: string; readonly subject: string; readonly email: string };
  readonly at: number;
  readonly reason?: string;
}

export interface ApprovalFilter {
  readonly state?: string;
  /** Theirs, and those for one of these groups; all when not given. */
  readonly seenBy?: { readonly issuer: string; readonly subject: string; readonly groups: readonly string[] };
  readonly limit: number;
}

export interface UseApproval {
  readonly id: string;
  readonly digest: string;
  readonly revision: string;
  readonly issuer: string;
  readonly subject: string;
  readonly target: string;
  readonly at: number;
}

export interface LabelBinding {
  /** schema.table.column as the policy's data spells it, #oid.attnum, or ~oid.attnum of what was computed of that column. */
  readonly name: string;
  readonly oid: number;
  readonly attnum: number;
}

export interface LabelBindingChange {
  readonly added: readonly LabelBinding[];
  /** By name. */
  readonly removed: readonly string[];
}

export interface SessionFilter {
  readonly who?: string | undefined;
  readonly issuer?: string | undefined;
  readonly subject?: string | undefined;
  readonly target?: string | undefined;
  readonly verdict?: string | undefined;
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  /** Id of the session that the previous page ended with. */
  readonly before?: string | undefined;
  readonly limit: number;
}

const chunkPage = 50;
/** As soon as a page has so much, it ends. */
const chunkPageBytes = 4 * 1_024 * 1_024;

/** `data` is null where it is larger than any that a gateway writes; bytes, if nobody else wrote it. */
export type StoredChunk = Omit<typeof chunks.$inferSelect, "data"> & { readonly data: unknown };

const sealPageSize = 1_000;

/** Of each row of a statement some parameters, of which SQLite takes 32,766. */
const rowsPerStatement = 1_000;

const hasName = sql`typeof(${sessions.id}) = 'text'`;
/** A text, or what SQL would call it. */
const spelled = (column: typeof sessions.id | typeof seals.session) =>
  sql<string>`case typeof(${column}) when 'text' then ${column} else quote(${column}) end`;

export const storeQueries = {
  async createApproval(db: Database, row: NewApproval) {
    await db.insert(approvals).values({ ...row, from: [...row.from] });
  },

  async getApproval(db: Database, id: string) {
    const [row] = await db.select().from(approvals).where(eq(approvals.id, id));
    if (row === undefined) return undefined;
    return { ...row, decisions: await decisionsOf(db, id) };
  },

  async listApprovals(db: Database, { state, seenBy, limit }: ApprovalFilter) {
    const isState = state === undefined ? undefined : eq(approvals.state, state as "pending");
    const rows = await db
      .select()
      .from(approvals)
      .where(and(isState, seenBy && isSeenBy(seenBy)))
      .orderBy(desc(approvals.created))
      .limit(limit);
    const ids = rows.map(({ id }) => id);
    const decisions = ids.length === 0 ? [] : await decisionsWhere(db, inArray(approvalDecisions.approval, ids));
    const byApproval = Map.groupBy(decisions, ({ approval }) => approval);
    return rows.map((row) => ({ ...row, decisions: byApproval.get(row.id) ?? [] }));
  },

  /** One decision a person; the first denial denies, the required count approves. @throws GatewayError approval.* */
  async decideApproval(db: Database, decide: DecideApproval) {
    return db.transaction(async (tx) => {
      const [row] = await tx.select().from(approvals).where(eq(approvals.id, decide.id));
      if (row === undefined) throw new GatewayError("approval.not_found", `no approval ${decide.id}`);
      if (row.state !== "pending" || decide.at >= row.expires) {
        throw new GatewayError("approval.not_pending", `approval ${decide.id} is no longer pending`);
      }
      const { issuer, subject, email } = decide.by;
      if (samePerson(decide.by, row)) throw new GatewayError("approval.forbidden", "nobody approves their own command");
      // Two at once have both been let through by what was read before.
      if ((await decisionsOf(tx, row.id)).some((decided) => samePerson(decide.by, decided)))
        throw new GatewayError("approval.not_pending", "you have already decided this approval");
      await tx.insert(approvalDecisions).values({
        approval: row.id,
        issuer,
        subject,
        email,
        decision: decide.decision,
        reason: decide.reason ?? null,
        at: decide.at,
      });
      const decisions = await decisionsOf(tx, row.id);
      const approved = decisions.filter((decision) => decision.decision === "approve").length >= row.count;
      const state = decide.decision === "deny" ? "denied" : approved ? "approved" : "pending";
      await tx.update(approvals).set({ state }).where(eq(approvals.id, row.id));
      return { ...row, state, decisions };
    });
  },

  /** @returns true exactly once for an approval, and only for what it was given for */
  async consumeApproval(db: Database, use: UseApproval): Promise<boolean> {
    const used = await db
      .update(approvals)
      .set({ state: "used" })
      .where(
        and(
          eq(approvals.id, use.id),
          eq(approvals.state, "approved"),
          eq(approvals.digest, use.digest),
          eq(approvals.revision, use.revision),
          eq(approvals.issuer, use.issuer),
          eq(approvals.subject, use.subject),
          eq(approvals.target, use.target),
          gt(approvals.expires, use.at),
        ),
      );
    return used.rowsAffected === 1;
  },

  async expireApproval(db: Database, id: string, state: "expired" | "cancelled") {
    await db
      .update(approvals)
      .set({ state })
      .where(and(eq(approvals.id, id), or(eq(approvals.state, "pending"), eq(approvals.state, "approved"))));
  },

  async fingerprintSeen(db: Database, identity: string, target: string, fingerprint: string): Promise<boolean> {
    const [row] = await db
      .select({ target: fingerprints.target })
      .from(fingerprints)
      .where(
        and(
          eq(fingerprints.identity, identity),
          eq(fingerprints.target, target),
          eq(fingerprints.fingerprint, fingerprint),
        ),
      );
    return row !== undefined;
  },

  async recordFingerprint(db: Database, identity: string, target: string, fingerprint: string) {
    await db.insert(fingerprints).values({ identity, target, fingerprint }).onConflictDoNothing();
  },

  async labelBindings(db: Database, target: string, database: string) {
    return db
      .select({ name: labelBindings.name, oid: labelBindings.oid, attnum: labelBindings.attnum })
      .from(labelBindings)
      .where(and(eq(labelBindings.target, target), eq(labelBindings.database, database)));
  },

  /** Only what differs: other gateways may have bound more meanwhile. */
  async saveLabelBindings(db: Database, target: string, database: string, { added, removed }: LabelBindingChange) {
    await db.transaction(async (tx) => {
      for (const names of inPages(removed)) {
        const isTheirs = and(eq(labelBindings.target, target), eq(labelBindings.database, database));
        await tx.delete(labelBindings).where(and(isTheirs, inArray(labelBindings.name, names)));
      }
      for (const rows of inPages(added)) {
        const values = rows.map((row) => ({ target, database, ...row }));
        await tx.insert(labelBindings).values(values).onConflictDoNothing();
      }
    });
  },

  async listSessions(db: Database, filter: SessionFilter) {
    const conditions = [
      filter.who === undefined ? undefined : or(eq(sessions.email, filter.who), eq(sessions.subject, filter.who)),
      filter.issuer === undefined ? undefined : eq(sessions.issuer, filter.issuer),
      filter.subject === undefined ? undefined : eq(sessions.subject, filter.subject),
      filter.target === undefined ? undefined : eq(sessions.target, filter.target),
      filter.verdict === undefined ? undefined : like(sessions.verdicts, `%,${filter.verdict},%`),
      filter.since === undefined ? undefined : gte(sessions.openedAt, filter.since),
      filter.until === undefined ? undefined : lte(sessions.openedAt, filter.until),
      // Another one is no cursor: the pages would end there. See `sessionsMissing`.
      hasName,
    ];
    if (filter.before !== undefined) {
      const { openedAt, id } = alias(sessions, "last");
      const last = db.select({ openedAt, id }).from(alias(sessions, "last")).where(eq(id, filter.before));
      conditions.push(sql`(${sessions.openedAt}, ${sessions.id}) < (${last})`);
    }
    return db
      .select()
      .from(sessions)
      .where(and(...conditions))
      .orderBy(desc(sessions.openedAt), desc(sessions.id))
      .limit(filter.limit);
  },

  async getSession(db: Database, id: string) {
    const [row] = await db.select().from(sessions).where(eq(sessions.id, id));
    return row;
  },

  /** A page of chunks that hold events from `fromEvent` on, still compressed. */
  async chunkPage(db: Database, session: string, fromEvent: number): Promise<StoredChunk[]> {
    const { first, last, codec, data } = chunks;
    const isSought = and(eq(chunks.session, session), gte(last, fromEvent));
    // Innermost alone, a length is told without reading what is so long.
    const length = sql<number>`length(${data})`.as("length");
    const sized = db
      .select({ first, length })
      .from(chunks)
      .where(isSought)
      .orderBy(asc(first))
      .limit(chunkPage)
      .as("sized");
    const before = sql<number>`total(${sized.length}) over (order by ${sized.first}) - ${sized.length}`.as("before");
    const placed = db.select({ first: sized.first, before }).from(sized).as("placed");
    const end = db
      .select({ first: max(placed.first) })
      .from(placed)
      .where(lt(placed.before, chunkPageBytes));
    const bounded = sql<unknown>`case when length(${data}) <= ${limits.chunkBytesMax} then ${data} end`;
    return db
      .select({ session: chunks.session, first, last, codec, data: bounded })
      .from(chunks)
      .where(and(isSought, lte(first, end)))
      .orderBy(asc(first))
      .limit(chunkPage);
  },

  /** A session's seal, and the hash of the one before it. */
  async getSeal(db: Database, session: string) {
    const [seal] = await db.select().from(seals).where(eq(seals.session, session));
    if (seal === undefined) return undefined;
    const [before] = await db
      .select({ hash: seals.hash })
      .from(seals)
      .where(eq(seals.n, seal.n - 1));
    return { seal, before: before?.hash };
  },

  /** In their order. @param from the first number */
  async sealPage(db: Database, from: number) {
    return db.select().from(seals).where(gte(seals.n, from)).orderBy(asc(seals.n)).limit(sealPageSize);
  },

  /** Of the list of sessions as a whole: who rewrote it may have made its table anew. */
  async listProblem(db: Database): Promise<string | undefined> {
    const counted = await db.select({ rows: count(), ids: countDistinct(sessions.id) }).from(sessions);
    const [{ rows = 0, ids = 0 } = {}] = counted;
    if (rows === ids) return undefined;
    return `the list of sessions was rewritten: ${rows - ids} of its ${rows} rows have no id of their own`;
  },

  /**
   * Sessions that were sealed and are no longer there; and those that no page of the list has, for want of a time or of
   * an id that is a text. Nothing is taken from what tables declare.
   */
  async sessionsMissing(db: Database): Promise<string[]> {
    const listed = db.select({ id: sessions.id }).from(sessions).where(eq(sessions.id, seals.session));
    const missing = await db
      .select({ session: spelled(seals.session) })
      .from(seals)
      .where(notExists(listed))
      .orderBy(asc(seals.n));
    const unlisted = await db
      .select({ session: spelled(sessions.id) })
      .from(sessions)
      .where(sql`typeof(${sessions.openedAt}) <> 'integer' or not ${hasName}`);
    return [...missing, ...unlisted].map(({ session }) => session);
  },

  /** As above. @throws GatewayError recording.failed where the list cannot tell */
  async sealedSessionsMissing(db: Database): Promise<string[]> {
    const problem = await storeQueries.listProblem(db);
    if (problem !== undefined) throw new GatewayError("recording.failed", problem);
    return storeQueries.sessionsMissing(db);
  },

  async ping(db: Database) {
    await db.run("select 1");
  },
};

/** What reading recordings asks of one database. */
export const readingOf = (db: Database) => ({
  listSessions: (filter: SessionFilter) => storeQueries.listSessions(db, filter),
  getSession: (id: string) => storeQueries.getSession(db, id),
  getSeal: (id: string) => storeQueries.getSeal(db, id),
  chunkPage: (id: string, from: number) => storeQueries.chunkPage(db, id, from),
});

function inPages<Row>(rows: readonly Row[]): Row[][] {
  const pages = Math.ceil(rows.length / rowsPerStatement);
  return Array.from({ length: pages }, (_, page) => rows.slice(page * rowsPerStatement, (page + 1) * rowsPerStatement));
}

async function decisionsWhere(db: Pick<Database, "select">, condition: SQL) {
  return db.select().from(approvalDecisions).where(condition).orderBy(asc(approvalDecisions.at));
}

const decisionsOf = (db: Pick<Database, "select">, approval: string) =>
  decisionsWhere(db, eq(approvalDecisions.approval, approval));

function isSeenBy({ issuer, subject, groups }: NonNullable<ApprovalFilter["seenBy"]>): SQL | undefined {
  const isTheirs = and(eq(approvals.issuer, issuer), eq(approvals.subject, subject));
  const names = JSON.stringify(groups);
  const mayDecide = sql`exists (select 1 from json_each(${approvals.from}) f, json_each(${names}) g where f.value = g.value)`;
  return or(isTheirs, mayDecide);
}
