/** The store's tables (libSQL). Times are milliseconds since the epoch; documents are JSON text. */
import { blob, customType, index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Who can write the file can put anything into a column: what is no text is read as what SQL would call it … */
const words = customType<{ data: string; driverData: unknown }>({
  dataType: () => "text",
  fromDriver: (value) => (isBytes(value) ? `x'${Buffer.from(value).toString("hex")}'` : String(value)),
});
/** … and what are no bytes as none, which no hash fits. */
const bytes = customType<{ data: Buffer; driverData: unknown }>({
  dataType: () => "blob",
  fromDriver: (value) => (isBytes(value) ? Buffer.from(value) : Buffer.alloc(0)),
});

function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array || value instanceof ArrayBuffer;
}

export const sessions = sqliteTable(
  "sessions",
  {
    id: words().primaryKey(),
    gateway: words().notNull(),
    issuer: words().notNull(),
    subject: words().notNull(),
    email: words().notNull(),
    kind: words().notNull(),
    target: words().notNull(),
    openedAt: integer("opened_at").notNull(),
    closedAt: integer("closed_at"),
    closeReason: words("close_reason"),
    commands: integer().notNull().default(0),
    /** Verdicts seen, each once: ",allow,deny," */
    verdicts: words().notNull().default(","),
    events: integer().notNull().default(0),
    /** Head of the hash chain over the session's events. */
    head: bytes().notNull(),
  },
  (table) => [index("sessions_opened").on(table.openedAt), index("sessions_identity").on(table.issuer, table.subject)],
);

/** Consecutive events of a session: lines of JSON, each ended by a line feed. */
export const chunks = sqliteTable(
  "recording_chunks",
  {
    session: text().notNull(),
    /** Number of the chunk's first event, from 1. */
    first: integer().notNull(),
    last: integer().notNull(),
    codec: text({ enum: ["raw", "zstd"] }).notNull(),
    data: blob({ mode: "buffer" }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.session, table.first] })],
);

/** One row a sealed session, chained over sessions: a session that is taken out leaves a gap. */
export const seals = sqliteTable("seals", {
  n: integer().primaryKey(),
  session: words().notNull().unique(),
  events: integer().notNull(),
  head: bytes().notNull(),
  previous: bytes().notNull(),
  hash: bytes().notNull(),
  /** Ed25519 over `hash`, or null where no key is configured. */
  signature: bytes(),
});

export const approvals = sqliteTable("approvals", {
  id: text().primaryKey(),
  session: text().notNull(),
  command: integer().notNull(),
  issuer: text().notNull(),
  subject: text().notNull(),
  email: text().notNull(),
  target: text().notNull(),
  text: text().notNull(),
  digest: text().notNull(),
  fingerprint: text().notNull(),
  revision: text().notNull(),
  from: text("from_groups", { mode: "json" }).$type<string[]>().notNull(),
  count: integer().notNull(),
  created: integer().notNull(),
  expires: integer().notNull(),
  state: text({ enum: ["pending", "approved", "denied", "expired", "cancelled", "used"] })
    .notNull()
    .default("pending"),
});

export const approvalDecisions = sqliteTable(
  "approval_decisions",
  {
    approval: text().notNull(),
    issuer: text().notNull(),
    subject: text().notNull(),
    email: text().notNull(),
    decision: text({ enum: ["approve", "deny"] }).notNull(),
    reason: text(),
    at: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.approval, table.issuer, table.subject] })],
);

/** Kinds of command that an identity has run on a target. */
export const fingerprints = sqliteTable(
  "fingerprints",
  { identity: text().notNull(), target: text().notNull(), fingerprint: text().notNull() },
  (table) => [primaryKey({ columns: [table.identity, table.target, table.fingerprint] })],
);

/** Which attributes have the label of a name, as was seen once: a rename keeps it, and what values flowed into. */
export const labelBindings = sqliteTable(
  "label_bindings",
  {
    target: text().notNull(),
    database: text().notNull(),
    name: text().notNull(),
    oid: integer().notNull(),
    attnum: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.target, table.database, table.name] })],
);
