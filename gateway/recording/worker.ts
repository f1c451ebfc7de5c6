/**
 * The one thread that writes to the store. Whatever was appended since the last commit goes into one transaction
 * (group commit over sessions): chunks of events, and each session's head of its hash chain.
 */
import { createPublicKey, type KeyObject, sign } from "node:crypto";
import { and, desc, eq, isNull, sql } from "drizzle-orm";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Database, openDatabase } from "../store/database.ts";
import { filePath, keyBeside } from "../store/file-path.ts";
import { type DecideApproval, readingOf, storeQueries } from "../store/queries.ts";
import { seals, sessions } from "../store/schema.ts";
import { type CommitWriter, openCommit } from "./commit.ts";
import type { SessionClosed } from "./events.ts";
import { OpenSession } from "./open-session.ts";
import type { FromWorker, ToWorker, WorkerOptions } from "./protocol.ts";
import { readEvents } from "./reader.ts";
import { lackingOf, removeJournal } from "./recovery.ts";
import { redactSecrets } from "./redaction.ts";
import { noSeal, sealHash } from "./seal.ts";
import { obtainSigningKey } from "./signing-key.ts";

declare const self: Worker;

let db: Database;
let writer: CommitWriter;
let durability: WorkerOptions["durability"];
let signingKey: KeyObject | undefined;
/** With other gateways. */
let isShared = false;
/** The last seal of a file, which has no other writer: where the file has another by now, that is to be seen. */
let latest: { readonly n: number; readonly hash: Buffer } | undefined;
const open = new Map<string, OpenSession>();
let appends = 0;
/** Appends that commits took, each of which acknowledges its own. */
let taken = 0;
let dirty = new Set<OpenSession>();
let failed = false;
/** Work in order: a commit takes what came before it. */
let queue: Promise<void> = Promise.resolve();

const post = (message: FromWorker) => postMessage(message);

function fail(error: unknown): void {
  failed = true;
  const { code, hint } = error instanceof GatewayError ? error : {};
  post({ type: "failed", failure: { message: (error as Error)?.message ?? String(error), code, hint } });
}

self.onmessage = (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if (failed) return;
  switch (message.type) {
    case "append":
      try {
        take(message);
      } catch (error) {
        return fail(error);
      }
      appends += 1;
      schedule();
      return;
    case "start":
      run(() => start(message.options));
      return;
    case "open":
      open.set(message.opened.session, OpenSession.begun(message.opened));
      return;
    case "seal":
      run(async () => {
        await commit();
        const session = open.get(message.session);
        open.delete(message.session);
        if (session) await seal(session, message.at, message.reason);
        post({ type: "answer", call: message.call, value: undefined });
      });
      return;
    case "sync":
      run(async () => {
        await commit();
        // The next commits are written beside it.
        writer
          .sync()
          .then(() => post({ type: "answer", call: message.call, value: undefined }))
          .catch(fail);
      });
      return;
    case "call":
      run(async () => {
        // What it reads has what was recorded before it.
        await commit();
        await answer(message);
        // A file's answers come without a turn: many in a row would keep what is to be recorded out.
        await new Promise(setImmediate);
      });
      return;
  }
};

function run(work: () => Promise<void>): void {
  // After a failure nothing more is written: what follows would not match what was lost.
  queue = queue.then(() => (failed ? undefined : work())).catch(fail);
}

let scheduled = false;
function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  // After the messages that have already arrived: what came during one commit shares the next.
  setImmediate(() =>
    run(async () => {
      scheduled = false;
      await commit();
    }),
  );
}

async function start(options: WorkerOptions): Promise<void> {
  durability = options.durability;
  db = await openDatabase(options);
  writer = await openCommit(db, options);
  const path = filePath(options.url);
  isShared = path === undefined;
  if (path !== undefined) await recover(path);
  const keyPath = options.signingKey ?? keyBeside(options.url);
  signingKey = keyPath === undefined ? undefined : obtainSigningKey(keyPath);
  await sealInterrupted(options.gateway);
  const publicKey = signingKey && createPublicKey(signingKey).export({ type: "spki", format: "pem" }).toString();
  post({ type: "started", publicKey });
}

/** A journal that a gateway left when it died. */
async function recover(path: string): Promise<void> {
  const lacking = await lackingOf(db, path);
  if (lacking === undefined) return;
  if (lacking.length > 0) await writer.write(lacking);
  // Into the database itself: of a log whose sync has failed before, another sync may say that it is on disk.
  await db.run(sql`pragma wal_checkpoint(truncate)`);
  await writer.sync();
  removeJournal(path);
}

/** @throws GatewayError internal where an event is not the next of its session */
function take({ bytes, parts }: Extract<ToWorker, { type: "append" }>): void {
  let end = 0;
  for (const { session: id, first, events, length, ...summary } of parts) {
    const start = end;
    end += length;
    const session = open.get(id);
    if (session === undefined) continue;
    if (first !== session.next) throw new GatewayError("internal", "events out of order");
    session.add(Buffer.from(bytes, start, length), events, summary);
    dirty.add(session);
  }
}

async function commit(): Promise<void> {
  if (taken === appends) return;
  taken = appends;
  const upTo = appends;
  if (dirty.size > 0) {
    const batch = dirty;
    dirty = new Set();
    const writing = writer.write(Array.from(batch, (session) => session.written()));
    // A file has been written by now: what follows an await would come a turn later.
    if (writing) await writing;
  }
  post({ type: "committed", appends: upTo });
  lookSoon();
}

let isLookDue = false;

/**
 * Nobody waits for it: it bounds what a power cut takes in `group`, and for how long a log goes on that nobody will
 * read. In `strict` the journal is on disk, and the log is synced before the journal is begun again.
 */
function lookSoon(): void {
  if (isLookDue) return;
  isLookDue = true;
  setTimeout(() => {
    isLookDue = false;
    if (!failed) (durability === "group" ? writer.sync() : writer.check()).catch(fail);
  }, limits.recordingSyncMs);
}

/**
 * The session's end, and its place in the chain over sessions: one transaction. Of gateways that share a store another
 * may take that place first: this one then follows it.
 */
async function seal(session: Pick<OpenSession, "id" | "events" | "head">, at: number, reason: string): Promise<void> {
  for (;;) {
    const last = latest ?? (await lastSeal());
    const previous = last?.hash ?? noSeal;
    const hash = sealHash(previous, session.id, session.events, session.head);
    const n = (last?.n ?? 0) + 1;
    try {
      await db.batch([
        db.update(sessions).set({ closedAt: at, closeReason: reason }).where(eq(sessions.id, session.id)),
        db.insert(seals).values({
          n,
          session: session.id,
          events: session.events,
          head: session.head,
          previous,
          hash,
          signature: signingKey ? sign(null, hash, signingKey) : null,
        }),
      ]);
      if (!isShared) latest = { n, hash };
      return;
    } catch (error) {
      if (!isShared) throw error;
      const now = await lastSeal();
      // Each time round the chain has grown by another's seal, and never because of this one's.
      if (now === undefined || now.n < n || now.session === session.id) throw error;
    }
  }
}

async function lastSeal() {
  const [last] = await db.select().from(seals).orderBy(desc(seals.n)).limit(1);
  return last;
}

/** The end that a session was given, where its gateway died before it was sealed. */
async function endOf({ id, events }: { id: string; events: number }): Promise<SessionClosed | undefined> {
  try {
    for await (const last of readEvents(readingOf(db), id, events)) if (last.type === "session.closed") return last;
  } catch {
    // What cannot be read is for verify to tell: a gateway starts all the same.
  }
  return undefined;
}

/** Sessions that this gateway left open when it died: their recording ends here, and says so unless it ended before. */
async function sealInterrupted(gateway: string): Promise<void> {
  const rows = await db
    .select()
    .from(sessions)
    .where(and(eq(sessions.gateway, gateway), isNull(sessions.closedAt)));
  for (const row of rows) {
    const end = await endOf(row);
    if (end !== undefined) {
      await seal(row, end.at, end.reason);
      continue;
    }
    const at = Date.now();
    const line = JSON.stringify({ type: "session.closed", at, reason: "interrupted" });
    const session = OpenSession.stored(row);
    session.addEvents([line]);
    await writer.write([session.written()]);
    await seal(session, at, "interrupted");
  }
  await db.run(
    sql`update approvals set state = 'cancelled' where state in ('pending', 'approved') and session in (select id from sessions where closed_at is not null)`,
  );
}

/** What people write is kept without secrets, as all that is recorded. */
const queries = {
  ...storeQueries,
  decideApproval: (database: Database, { reason, ...decide }: DecideApproval) =>
    storeQueries.decideApproval(database, {
      ...decide,
      ...(reason !== undefined && { reason: redactSecrets(reason) }),
    }),
};

async function answer(message: Extract<ToWorker, { type: "call" }>): Promise<void> {
  const { call, method } = message;
  try {
    const query = (
      queries as unknown as Record<string, (db: Database, ...rest: readonly unknown[]) => Promise<unknown>>
    )[method];
    if (query === undefined) throw new GatewayError("internal", `no query ${method}`);
    post({ type: "answer", call, value: await query(db, ...message.arguments) });
  } catch (error) {
    const known = error instanceof GatewayError;
    post({
      type: "refused",
      call,
      code: known ? error.code : "store.unavailable",
      message: known ? error.message : "the store could not answer",
    });
  }
}
