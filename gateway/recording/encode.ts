/**
 * Events as the lines of JSON that recordings are made of, exactly as `JSON.stringify` would write them, but for secrets
 * (an intent's text and parameters come without). The four
 * events of every command are put together from their parts: what a decision or a result's columns say is written once
 * and kept with the object that says it.
 */
import { limits } from "../limits.ts";
import type { Intent, Outcome, RecordedEvent, ResultRecorded, RowsRecorded } from "./events.ts";
import { redactedJson } from "./redaction.ts";

const written = new WeakMap<object, string>();

/** @param value frozen, or never changed once it was recorded */
function kept(value: object): string {
  const known = written.get(value);
  if (known !== undefined) return known;
  const text = redactedJson(value);
  written.set(value, text);
  return text;
}

/** Quotes nothing that JSON would escape: for words of the gateway's own (verdicts, digests, ways). */
const plain = (word: string) => `"${word}"`;

export function encodeEvent(event: RecordedEvent): string {
  switch (event.type) {
    case "intent":
      return encodeIntent(event);
    case "rows":
      return encodeRows(event);
    case "result":
      return encodeResult(event);
    case "outcome":
      return encodeOutcome(event);
    case "notice":
      return redactedJson(event, limits.recordedFieldLengthMax);
    default:
      return redactedJson(event);
  }
}

let lastText: { readonly text: string; readonly json: string } | undefined;

/** A prepared statement's text comes again and again. */
function quoted(text: string): string {
  if (text !== lastText?.text) lastText = { text, json: JSON.stringify(text) };
  return lastText.json;
}

function encodeIntent(event: Intent): string {
  const { approval, obligations, params, standsFor } = event;
  return (
    `{"type":"intent","at":${event.at},"judgedAt":${event.judgedAt},"command":${event.command},"via":${plain(event.via)}` +
    `,"text":${quoted(event.text)}${standsFor ? `,"standsFor":${JSON.stringify(standsFor)}` : ""},"params":${params.length === 0 ? "[]" : JSON.stringify(params)}` +
    `,"digest":${plain(event.digest)},"analysis":${event.analysis},"novel":${event.novel}` +
    `,"verdict":${plain(event.verdict)},"rules":${kept(event.rules)},"masks":${kept(event.masks)}` +
    `,"diagnostics":${plain(event.diagnostics)}${approval ? `,"approval":${kept(approval)}` : ""}` +
    `${obligations ? `,"obligations":${kept(obligations)}` : ""}` +
    `,"revision":${plain(event.revision)},"forwarded":${event.forwarded}}`
  );
}

function encodeRows(event: RowsRecorded): string {
  const columns = event.columns ? `,"columns":${kept(event.columns)}` : "";
  return `{"type":"rows","command":${event.command}${columns},"rows":${redactedJson(event.rows)}}`;
}

function encodeResult(event: ResultRecorded): string {
  const { unrecorded, error } = event;
  return (
    `{"type":"result","at":${event.at},"command":${event.command},"tag":${JSON.stringify(event.tag)}` +
    `,"rows":${event.rows},"bytes":${event.bytes}` +
    `${unrecorded ? `,"unrecorded":${JSON.stringify(unrecorded)}` : ""}${error ? `,"error":${redactedJson(error, limits.recordedFieldLengthMax)}` : ""}}`
  );
}

function encodeOutcome(event: Outcome): string {
  return (
    `{"type":"outcome","at":${event.at},"command":${event.command},"status":${plain(event.status)}` +
    `${event.sqlstate === undefined ? "" : `,"sqlstate":${JSON.stringify(event.sqlstate)}`}` +
    `${event.refused === undefined ? "" : `,"refused":${redactedJson(event.refused)}`},"durationMs":${event.durationMs}}`
  );
}
