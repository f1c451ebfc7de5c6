/** Decodes messages from a target. A target is not trusted to be well-formed: what is not as documented is refused. */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import {
  type Authentication,
  type BackendMessage,
  backendType,
  type CopyResponse,
  type FieldDescription,
  type NoticeFields,
  type RowDescription,
  type TransactionStatus,
} from "./messages.ts";
import { type Frame, int32At, PayloadReader, uint16At, withoutFields } from "./reader.ts";

/** Messages without fields: nothing of them differs from one to the next. */
const bare = new Map(
  (
    [
      "EmptyQueryResponse",
      "ParseComplete",
      "BindComplete",
      "CloseComplete",
      "NoData",
      "PortalSuspended",
      "CopyDone",
    ] as const
  ).map((type) => [backendType[type] as number, Object.freeze({ type })]),
);
const copyResponses = new Map([
  [backendType.CopyInResponse, "CopyInResponse"],
  [backendType.CopyOutResponse, "CopyOutResponse"],
  [backendType.CopyBothResponse, "CopyBothResponse"],
] as const);

/** @throws GatewayError upstream.protocol */
export function decodeBackendMessage(frame: Frame): BackendMessage {
  try {
    return decode(frame);
  } catch (cause) {
    if (cause instanceof GatewayError && cause.code.startsWith("protocol.")) {
      throw new GatewayError("upstream.protocol", `the target broke the protocol: ${cause.message}`, { cause });
    }
    throw cause;
  }
}

function decode(frame: Frame): BackendMessage {
  switch (frame.type) {
    case backendType.DataRow:
      return { type: "DataRow", fields: decodeDataRow(frame) };
    case backendType.RowDescription:
      return decodeRowDescription(frame);
    case backendType.CommandComplete: {
      const reader = new PayloadReader(frame, "CommandComplete");
      const tag = reader.string();
      reader.end();
      return { type: "CommandComplete", tag };
    }
    case backendType.ReadyForQuery: {
      const reader = new PayloadReader(frame, "ReadyForQuery");
      const status = String.fromCharCode(reader.byte());
      if (status !== "I" && status !== "T" && status !== "E") reader.malformed("an unknown transaction status");
      reader.end();
      return { type: "ReadyForQuery", status: status as TransactionStatus };
    }
    case backendType.ErrorResponse:
      return { type: "ErrorResponse", fields: decodeNoticeFields(frame, "ErrorResponse") };
    case backendType.NoticeResponse:
      return { type: "NoticeResponse", fields: decodeNoticeFields(frame, "NoticeResponse") };
    case backendType.ParameterStatus: {
      const reader = new PayloadReader(frame, "ParameterStatus");
      const name = reader.string();
      const value = reader.string();
      reader.end();
      return { type: "ParameterStatus", name, value };
    }
    case backendType.ParameterDescription: {
      const reader = new PayloadReader(frame, "ParameterDescription");
      const told = reader.uint16();
      const typeOids: number[] = [];
      while (reader.remaining > 0) typeOids.push(reader.uint32());
      // Of more than 65,535 the server tells the count without its upper bits; no client can bind so many.
      if ((typeOids.length & 0xffff) !== told) reader.malformed(`${typeOids.length} types where ${told} were told`);
      return { type: "ParameterDescription", typeOids };
    }
    case backendType.CopyData:
      return { type: "CopyData", data: frame.payload };
    case backendType.Authentication:
      return decodeAuthentication(frame);
    case backendType.BackendKeyData: {
      const reader = new PayloadReader(frame, "BackendKeyData");
      const processId = reader.int32();
      if (reader.remaining < 4 || reader.remaining > 256) reader.malformed(`a key of ${reader.remaining} bytes`);
      return { type: "BackendKeyData", processId, secretKey: reader.rest() };
    }
    case backendType.NotificationResponse: {
      const reader = new PayloadReader(frame, "NotificationResponse");
      const processId = reader.int32();
      const channel = reader.string();
      const text = reader.string();
      reader.end();
      return { type: "NotificationResponse", processId, channel, payload: text };
    }
    case backendType.NegotiateProtocolVersion: {
      const reader = new PayloadReader(frame, "NegotiateProtocolVersion");
      const minor = reader.int32() & 0xffff;
      const count = reader.int32();
      const unrecognized: string[] = [];
      for (let index = 0; index < count; index++) unrecognized.push(reader.string());
      reader.end();
      return { type: "NegotiateProtocolVersion", minor, unrecognized };
    }
    case backendType.FunctionCallResponse: {
      const reader = new PayloadReader(frame, "FunctionCallResponse");
      const result = reader.value();
      reader.end();
      return { type: "FunctionCallResponse", result };
    }
    default: {
      const message = bare.get(frame.type);
      if (message !== undefined) return withoutFields(frame, message);
      const copyType = copyResponses.get(frame.type as never);
      if (copyType !== undefined) return decodeCopyResponse(frame, copyType);
      throw new GatewayError("protocol.malformed", `invalid backend message type ${frame.type}`);
    }
  }
}

/** Int16 n | n * (String name, Int32 table, Int16 attnum, Int32 type, Int16 size, Int32 modifier, Int16 format) */
export function decodeRowDescription(frame: Frame): RowDescription {
  const reader = new PayloadReader(frame, "RowDescription");
  const count = reader.uint16();
  if (count > limits.columnsMax) reader.tooMany("columns", count, limits.columnsMax);
  const fields: FieldDescription[] = [];
  for (let index = 0; index < count; index++) {
    fields.push({
      name: reader.string(),
      tableOid: reader.uint32(),
      attnum: reader.int16(),
      typeOid: reader.uint32(),
      typeSize: reader.int16(),
      modifier: reader.int32(),
      format: reader.format(),
    });
  }
  reader.end();
  return { type: "RowDescription", fields };
}

/**
 * Int16 n | n * (Int32 length, or -1 for NULL | bytes). The fields are views.
 * @throws GatewayError protocol.malformed (`decodeBackendMessage` turns it into upstream.protocol)
 */
export function decodeDataRow(frame: Frame): (Buffer | null)[] {
  const fields: (Buffer | null)[] = [];
  forEachField(frame, (start, end) => {
    fields.push(start < 0 ? null : frame.bytes.subarray(start, end));
  });
  return fields;
}

/**
 * Calls back with where each field lies in `frame.bytes`, start -1 for NULL, without making a view of it.
 * @returns the number of fields
 */
export function forEachField(frame: Frame, visit: (start: number, end: number, index: number) => void): number {
  const { bytes, start, end } = frame;
  if (end - start < 2) return rowMalformed();
  const count = uint16At(bytes, start);
  if (count > limits.columnsMax) return rowMalformed();
  let at = start + 2;
  for (let index = 0; index < count; index++) {
    if (at + 4 > end) return rowMalformed();
    const length = int32At(bytes, at);
    at += 4;
    if (length === -1) {
      visit(-1, -1, index);
      continue;
    }
    if (length < 0 || length > end - at) return rowMalformed();
    visit(at, at + length, index);
    at += length;
  }
  if (at !== end) return rowMalformed();
  return count;
}

function rowMalformed(): never {
  throw new GatewayError("protocol.malformed", "malformed DataRow message");
}

/** Int8 format | formats of the columns */
function decodeCopyResponse(frame: Frame, type: CopyResponse["type"]): CopyResponse {
  const reader = new PayloadReader(frame, type);
  const format = reader.byte();
  if (format !== 0 && format !== 1) reader.malformed(`format ${format}`);
  const columnFormats = reader.formats(limits.columnsMax);
  reader.end();
  return { type, format: format as 0 | 1, columnFormats };
}

/**
 * n * (Int8 letter | String) | Int8 0. Text longer than `limits.errorFieldBytesMax` is cut; before the session's
 * encoding is set a server may write in another one, so bytes that are not UTF-8 become U+FFFD.
 */
function decodeNoticeFields(frame: Frame, message: string): NoticeFields {
  const reader = new PayloadReader(frame, message);
  const fields: Record<string, string> = {};
  for (let letter = reader.byte(); letter !== 0; letter = reader.byte()) {
    if (letter < 0x41 || letter > 0x7a) reader.malformed(`field type ${letter}`);
    const text = reader.rawString();
    fields[String.fromCharCode(letter)] = text.subarray(0, limits.errorFieldBytesMax).toString("utf8");
  }
  reader.end();
  return fields;
}

/** Int32 kind | what belongs to it */
function decodeAuthentication(frame: Frame): Authentication {
  const reader = new PayloadReader(frame, "Authentication");
  const code = reader.int32();
  switch (code) {
    case 0:
      reader.end();
      return { type: "AuthenticationOk" };
    case 3:
      reader.end();
      return { type: "AuthenticationCleartextPassword" };
    case 5: {
      const salt = reader.bytes(4);
      reader.end();
      return { type: "AuthenticationMD5Password", salt };
    }
    case 10: {
      const mechanisms: string[] = [];
      for (let name = reader.string(); name !== ""; name = reader.string()) mechanisms.push(name);
      reader.end();
      return { type: "AuthenticationSASL", mechanisms };
    }
    case 11:
      return { type: "AuthenticationSASLContinue", data: reader.rest() };
    case 12:
      return { type: "AuthenticationSASLFinal", data: reader.rest() };
    default:
      return { type: "AuthenticationUnsupported", code };
  }
}
