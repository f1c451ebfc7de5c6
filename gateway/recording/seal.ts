/**
 * The seal of an ended session: its number of events and the head of their chain, bound to the seal before it and
 * signed (Ed25519), so that neither a session nor its place among the others can be changed without the gateway's key.
 *
 *   hash_n = sha256("sallyport/seal/1 " || hash_{n-1} || "<session> <events> " || head)
 */
import { createHash, createPublicKey, verify } from "node:crypto";
import type { seals, sessions } from "../store/schema.ts";
import type { RecordedEvent } from "./events.ts";
import type { SessionSummary } from "./summary.ts";

const domain = "sallyport/seal/1 ";

/** What the first seal of a store follows. */
export const noSeal = Buffer.alloc(32);

export function sealHash(previous: Uint8Array, session: string, events: number, head: Uint8Array): Buffer {
  return createHash("sha256").update(domain).update(previous).update(`${session} ${events} `).update(head).digest();
}

type SessionRow = typeof sessions.$inferSelect;
type SealRow = typeof seals.$inferSelect;
/** As `storeQueries.getSeal` gives it. */
export interface SealFound {
  readonly seal: SealRow;
  /** Hash of the seal numbered one less; undefined where there is none. */
  readonly before: Uint8Array | undefined;
}

/**
 * What is wrong with the seal of a closed session whose events were recomputed to `events` and `head`.
 * @param publicKey SPKI, PEM, of the gateway that sealed; without it signatures are not looked at
 */
export function sealProblem(
  found: SealFound | undefined,
  session: string,
  events: number,
  head: Buffer,
  publicKey: string | undefined,
): string | undefined {
  if (found === undefined) return "the session is closed and has no seal";
  const { seal, before } = found;
  const [previous, hash] = [Buffer.from(seal.previous), Buffer.from(seal.hash)];
  if (seal.events !== events || !head.equals(Buffer.from(seal.head)))
    return "the events are not those that were sealed";
  if (!sealHash(previous, session, events, head).equals(hash)) return "the seal was changed";
  const follows = seal.n === 1 ? noSeal : before;
  if (follows === undefined) return `the seal before it (${seal.n - 1}) is missing: a session was taken out`;
  if (!previous.equals(Buffer.from(follows))) return `the seal before it (${seal.n - 1}) was changed`;
  if (publicKey === undefined) return undefined;
  if (seal.signature === null) return "the seal is not signed";
  const signed = verify(null, hash, createPublicKey(publicKey), Buffer.from(seal.signature));
  return signed ? undefined : "the seal's signature is not this gateway's";
}

/**
 * What is wrong with the chain of all seals, each by what it says itself: a session that is not there any more has one too.
 *
 * @param pageFrom the seals from a number on, in order; none behind the last
 */
export async function sealChainProblem(
  pageFrom: (n: number) => Promise<readonly SealRow[]>,
  publicKey: string | undefined,
): Promise<string | undefined> {
  const sessions = new Set<string>();
  let before: Buffer = noSeal;
  let n = 1;
  for (let page = await pageFrom(n); page.length > 0; page = await pageFrom(n)) {
    for (const seal of page) {
      if (seal.n !== n) return `seal ${n} is missing: a session was taken out`;
      if (sessions.has(seal.session)) return `seal ${n} is for a session that has another: ${seal.session}`;
      sessions.add(seal.session);
      const found = { seal, before };
      const problem = sealProblem(found, seal.session, seal.events, Buffer.from(seal.head), publicKey);
      if (problem !== undefined) return `seal ${n}: ${problem}`;
      before = Buffer.from(seal.hash);
      n += 1;
    }
  }
  return undefined;
}

/** What the list of sessions says of one must be what its own first event says. */
export function listingProblem(row: SessionRow, first: RecordedEvent | undefined): string | undefined {
  if (first?.type !== "session.opened" || first.session !== row.id) return "it does not begin with its own opening";
  const { identity, target } = first;
  const same =
    row.issuer === identity.issuer &&
    row.subject === identity.subject &&
    row.email === identity.email &&
    row.kind === identity.kind &&
    row.target === target.name &&
    row.openedAt === first.at &&
    row.gateway === first.gateway;
  return same ? undefined : "the list of sessions says another identity, target or time than the recording";
}

/**
 * As are its commands and verdicts, and its end.
 *
 * @param last event of one that has ended; undefined of an open one
 */
export function summaryProblem(
  row: SessionRow,
  { commands, verdicts }: SessionSummary,
  last: RecordedEvent | undefined,
): string | undefined {
  if (row.commands !== commands || row.verdicts !== verdicts)
    return "the list of sessions says other commands or verdicts than the recording";
  if (last === undefined) return undefined;
  const isEnd = last.type === "session.closed" && row.closedAt === last.at && row.closeReason === last.reason;
  return isEnd ? undefined : "the list of sessions says another end than the recording";
}
