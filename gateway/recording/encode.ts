/**
 * Events as the lines of JSON that recordings are made of, exactly as `JSON.stringify` would write them, but for secrets
 * (an intent's text and parameters come without). The four events of every command are put together from their parts:
 * what a decision or a result's columns say is written once and kept with the object that says it, and what the events
 * of one millisecond begin with is kept for it.
 */
import { limits } from "../limits.ts";
import type { Intent, Outcome, RecordedEvent, ResultRecorded, RowsRecorded } from "./events.ts";
import { redactedJson } from "./redaction.ts";
import type { Utf8Writer } from "./utf8-writer.ts";

const part = (text: string): Uint8Array => Buffer.from(text);

const written = new WeakMap<object, Uint8Array>();

/** @param value frozen, or never changed once it was recorded */
function kept(value: object): Uint8Array {
  const known = written.get(value);
  if (known !== undefined) return known;
  const bytes = part(redactedJson(value));
  written.set(value, bytes);
  return bytes;
}

/** Quotes nothing that JSON would escape: for words of the gateway's own (verdicts, digests, ways). */
const plain = (word: string) => `"${word}"`;

export function encodeEvent(to: Utf8Writer, event: RecordedEvent): void {
  switch (event.type) {
    case "intent":
      return encodeIntent(to, event);
    case "rows":
      return encodeRows(to, event);
    case "result":
      return encodeResult(to, event);
    case "outcome":
      return encodeOutcome(to, event);
    case "notice":
      to.json(redactedJson(event, limits.recordedFieldLengthMax));
      return;
    default:
      to.json(redactedJson(event));
  }
}

const closing = 0x7d;

/** What events of one time begin with, up to the number of their command. */
function beginningsAt(at: number) {
  return {
    at,
    intent: part(`{"type":"intent","at":${at},"judgedAt":${at},"command":`),
    result: part(`{"type":"result","at":${at},"command":`),
    outcome: part(`{"type":"outcome","at":${at},"command":`),
  };
}
let latest = beginningsAt(0);

function beginnings(at: number) {
  if (latest.at !== at) latest = beginningsAt(at);
  return latest;
}

/** What an intent says between its number and its text, by where it came from. */
const viaParts = new Map<string, Uint8Array>();

function viaPart(via: string): Uint8Array {
  const known = viaParts.get(via);
  if (known !== undefined) return known;
  const bytes = part(`,"via":${plain(via)},"text":`);
  viaParts.set(via, bytes);
  return bytes;
}

let lastText: { readonly text: string; readonly bytes: Uint8Array } | undefined;

/** A prepared statement's text comes again and again. */
function textPart(text: string): Uint8Array {
  if (text !== lastText?.text) lastText = { text, bytes: part(JSON.stringify(text)) };
  return lastText.bytes;
}

const standsForPart = part(',"standsFor":');
const paramsPart = part(',"params":[');
const nullPart = part("null");
const comma = 0x2c;
const endOfList = 0x5d;
const digestPart = part(',"digest":"');

/** What an intent says behind its digest, for the same analysis and decision. */
interface Tail {
  readonly of: Intent;
  readonly bytes: Uint8Array;
}
const tails = new WeakMap<object, Tail>();

function tailOf(event: Intent): Uint8Array {
  const known = tails.get(event.rules);
  if (known !== undefined && haveSameTail(known.of, event)) return known.bytes;
  const { approval, obligations } = event;
  const own = `","analysis":${event.analysis},"novel":${event.novel},"verdict":${plain(event.verdict)},"rules":`;
  const bytes = Buffer.concat([
    part(own),
    kept(event.rules),
    part(',"masks":'),
    kept(event.masks),
    part(`,"diagnostics":${plain(event.diagnostics)}`),
    ...(approval ? [part(',"approval":'), kept(approval)] : []),
    ...(obligations ? [part(',"obligations":'), kept(obligations)] : []),
    part(`,"revision":${plain(event.revision)},"forwarded":${event.forwarded}}`),
  ]);
  // Of the event only what the tail says is looked at again.
  tails.set(event.rules, { of: { ...event, text: "", params: [], standsFor: undefined }, bytes });
  return bytes;
}

function haveSameTail(one: Intent, other: Intent): boolean {
  return (
    one.analysis === other.analysis &&
    one.novel === other.novel &&
    one.verdict === other.verdict &&
    one.masks === other.masks &&
    one.diagnostics === other.diagnostics &&
    one.approval === other.approval &&
    one.obligations === other.obligations &&
    one.revision === other.revision &&
    one.forwarded === other.forwarded
  );
}

function encodeIntent(to: Utf8Writer, event: Intent): void {
  const { at, judgedAt, params, standsFor } = event;
  if (judgedAt === at) to.raw(beginnings(at).intent);
  else to.ascii(`{"type":"intent","at":${at},"judgedAt":${judgedAt},"command":`);
  to.number(event.command).raw(viaPart(event.via)).raw(textPart(event.text));
  if (standsFor) to.raw(standsForPart).json(JSON.stringify(standsFor));
  to.raw(paramsPart);
  for (let index = 0; index < params.length; index++) {
    if (index > 0) to.byte(comma);
    const value = params[index] as string | null;
    if (value === null) to.raw(nullPart);
    else to.string(value);
  }
  to.byte(endOfList);
  to.raw(digestPart).ascii(event.digest).raw(tailOf(event));
}

const rowsOfPart = part('{"type":"rows","command":');
const columnsPart = part(',"columns":');
const rowsPart = part(',"rows":');

function encodeRows(to: Utf8Writer, event: RowsRecorded): void {
  to.raw(rowsOfPart).number(event.command);
  if (event.columns) to.raw(columnsPart).raw(kept(event.columns));
  to.raw(rowsPart).json(redactedJson(event.rows)).byte(closing);
}

const tagPart = part(',"tag":');
const bytesPart = part(',"bytes":');
const unrecordedPart = part(',"unrecorded":');
const errorPart = part(',"error":');

function encodeResult(to: Utf8Writer, event: ResultRecorded): void {
  const { unrecorded, error } = event;
  to.raw(beginnings(event.at).result).number(event.command).raw(tagPart).string(event.tag);
  to.raw(rowsPart).number(event.rows).raw(bytesPart).number(event.bytes);
  if (unrecorded) to.raw(unrecordedPart).json(JSON.stringify(unrecorded));
  if (error) to.raw(errorPart).json(redactedJson(error, limits.recordedFieldLengthMax));
  to.byte(closing);
}

const statusPart = part(',"status":');
const sqlstatePart = part(',"sqlstate":');
const refusedPart = part(',"refused":');
const durationPart = part(',"durationMs":');

function encodeOutcome(to: Utf8Writer, event: Outcome): void {
  to.raw(beginnings(event.at).outcome).number(event.command).raw(statusPart).string(event.status);
  if (event.sqlstate !== undefined) to.raw(sqlstatePart).string(event.sqlstate);
  if (event.refused !== undefined) to.raw(refusedPart).json(redactedJson(event.refused));
  to.raw(durationPart).number(event.durationMs).byte(closing);
}
