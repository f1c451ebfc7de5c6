/** Decodes messages from a client, strictly: what is not exactly as documented is refused. */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import {
  type Bind,
  type FrontendMessage,
  type FunctionCall,
  frontendType,
  type Parse,
  type PasswordMessage,
  type SASLInitialResponse,
  type SASLResponse,
  type Unreadable,
} from "./messages.ts";
import { type Frame, InvalidText, PayloadReader, withoutFields } from "./reader.ts";

/**
 * A message of the query phase. Messages of type "p" belong to authentication and are decoded by the three functions
 * below, since their meaning depends on what was asked. @throws GatewayError protocol.malformed, protocol.too_large
 */
export function decodeFrontendMessage(frame: Frame): FrontendMessage {
  switch (frame.type) {
    case frontendType.Query: {
      const reader = new PayloadReader(frame, "Query");
      const query = reader.string();
      reader.end();
      return { type: "Query", query };
    }
    case frontendType.Parse:
      return decodeParse(frame);
    case frontendType.Bind:
      return decodeBind(frame);
    case frontendType.Execute: {
      const reader = new PayloadReader(frame, "Execute");
      const portal = reader.string();
      const rowsMax = reader.int32();
      reader.end();
      // The server reads a negative count as "no limit".
      return { type: "Execute", portal, rowsMax: Math.max(0, rowsMax) };
    }
    case frontendType.Describe:
      return decodeNamed(frame, "Describe");
    case frontendType.Close:
      return decodeNamed(frame, "Close");
    case frontendType.Sync:
      return withoutFields(frame, sync);
    case frontendType.Flush:
      return withoutFields(frame, flush);
    case frontendType.Terminate:
      return withoutFields(frame, terminate);
    case frontendType.CopyDone:
      return withoutFields(frame, copyDone);
    case frontendType.CopyData:
      return { type: "CopyData", data: frame.payload };
    case frontendType.CopyFail: {
      const reader = new PayloadReader(frame, "CopyFail");
      const message = reader.string();
      reader.end();
      return { type: "CopyFail", message };
    }
    case frontendType.FunctionCall:
      return decodeFunctionCall(frame);
    case frontendType.PasswordMessage:
      throw new GatewayError("protocol.malformed", "a password message outside of authentication");
    default:
      throw new GatewayError("protocol.malformed", `invalid frontend message type ${frame.type}`);
  }
}

/** As `decodeFrontendMessage`, but text that is not UTF-8 is a value where it fails no more than its own message. */
export function decodeOrUnreadable(frame: Frame): FrontendMessage | Unreadable {
  try {
    return decodeFrontendMessage(frame);
  } catch (fault) {
    const message =
      fault instanceof InvalidText ? failing.find((name) => frontendType[name] === frame.type) : undefined;
    if (message === undefined) throw fault;
    return { type: "Unreadable", message };
  }
}

const failing = ["Query", "Parse", "Bind", "Execute", "Describe", "Close"] as const;

const sync = Object.freeze({ type: "Sync" });
const flush = Object.freeze({ type: "Flush" });
const terminate = Object.freeze({ type: "Terminate" });
const copyDone = Object.freeze({ type: "CopyDone" });

/** Int8 'S' or 'P' | String name */
function decodeNamed<Type extends "Describe" | "Close">(
  frame: Frame,
  type: Type,
): { type: Type; kind: "statement" | "portal"; name: string } {
  const reader = new PayloadReader(frame, type);
  const kind = reader.byte();
  if (kind !== 0x53 && kind !== 0x50) reader.malformed(`subtype ${kind}`);
  const name = reader.string();
  reader.end();
  return { type, kind: kind === 0x53 ? "statement" : "portal", name };
}

/** String statement | String query | Int16 n | n * Int32 type OID */
function decodeParse(frame: Frame): Parse {
  const reader = new PayloadReader(frame, "Parse");
  const statement = reader.string();
  const query = reader.string();
  const count = reader.uint16();
  if (count > limits.parametersMax) reader.tooMany("parameter types", count, limits.parametersMax);
  const parameterTypeOids: number[] = [];
  for (let index = 0; index < count; index++) parameterTypeOids.push(reader.uint32());
  reader.end();
  return { type: "Parse", statement, query, parameterTypeOids };
}

/** String portal | String statement | formats | Int16 n | n * (Int32 length | bytes) | formats */
function decodeBind(frame: Frame): Bind {
  const reader = new PayloadReader(frame, "Bind");
  const portal = reader.string();
  const statement = reader.string();
  const parameterFormats = reader.formats(limits.parametersMax);
  const parameters = decodeValues(reader, parameterFormats.length);
  const resultFormats = reader.formats(limits.columnsMax);
  reader.end();
  return { type: "Bind", portal, statement, parameterFormats, parameters, resultFormats };
}

/** Int32 OID | formats | Int16 n | n * (Int32 length | bytes) | Int16 format */
function decodeFunctionCall(frame: Frame): FunctionCall {
  const reader = new PayloadReader(frame, "FunctionCall");
  const functionOid = reader.uint32();
  const argumentFormats = reader.formats(limits.parametersMax);
  const values = decodeValues(reader, argumentFormats.length);
  const resultFormat = reader.format();
  reader.end();
  return { type: "FunctionCall", functionOid, argumentFormats, arguments: values, resultFormat };
}

function decodeValues(reader: PayloadReader, formats: number): (Buffer | null)[] {
  const count = reader.uint16();
  if (count > limits.parametersMax) reader.tooMany("parameters", count, limits.parametersMax);
  if (formats > 1 && formats !== count) reader.malformed(`${formats} formats for ${count} parameters`);
  const values: (Buffer | null)[] = [];
  for (let index = 0; index < count; index++) values.push(reader.value());
  return values;
}

/** The answer to AuthenticationCleartextPassword. */
export function decodePasswordMessage(frame: Frame): PasswordMessage {
  const reader = authenticationReader(frame, "PasswordMessage");
  const password = reader.string();
  reader.end();
  return { type: "PasswordMessage", password };
}

/** The first answer to AuthenticationSASL: String mechanism | Int32 length or -1 | bytes */
export function decodeSASLInitialResponse(frame: Frame): SASLInitialResponse {
  const reader = authenticationReader(frame, "SASLInitialResponse");
  const mechanism = reader.string();
  const data = reader.value();
  reader.end();
  return { type: "SASLInitialResponse", mechanism, data };
}

export function decodeSASLResponse(frame: Frame): SASLResponse {
  return { type: "SASLResponse", data: authenticationReader(frame, "SASLResponse").rest() };
}

function authenticationReader(frame: Frame, message: string): PayloadReader {
  if (frame.type !== frontendType.PasswordMessage) {
    throw new GatewayError("protocol.malformed", `expected a password response, got message type ${frame.type}`);
  }
  // Base64url tokens and a little around them: a larger one is not an answer to anything we asked.
  const max = limits.tokenBytesMax + 1_024;
  if (frame.payloadBytes > max) {
    throw new GatewayError("protocol.malformed", `${message} of ${frame.payloadBytes} bytes, at most ${max} accepted`);
  }
  return new PayloadReader(frame, message);
}
