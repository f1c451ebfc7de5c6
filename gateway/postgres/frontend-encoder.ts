/** Encodes messages to a target from their decoded form: lengths and counts are always our own. */
import {
  type CancelRequest,
  type FrontendMessage,
  frontendType,
  type PasswordMessage,
  type SASLInitialResponse,
  type SASLResponse,
} from "./messages.ts";
import type { MessageWriter } from "./writer.ts";

export function encodeFrontendMessage(
  writer: MessageWriter,
  message: FrontendMessage | PasswordMessage | SASLInitialResponse | SASLResponse,
): MessageWriter {
  switch (message.type) {
    case "Query":
      return writer.begin(frontendType.Query).string(message.query).finish();
    case "Parse":
      writer.begin(frontendType.Parse).string(message.statement).string(message.query);
      writer.uint16(message.parameterTypeOids.length);
      for (const oid of message.parameterTypeOids) writer.uint32(oid);
      return writer.finish();
    case "Bind":
      writer.begin(frontendType.Bind).string(message.portal).string(message.statement);
      encodeValues(writer.uint16s(message.parameterFormats), message.parameters);
      return writer.uint16s(message.resultFormats).finish();
    case "Execute":
      return writer.begin(frontendType.Execute).string(message.portal).int32(message.rowsMax).finish();
    case "Describe":
    case "Close":
      return writer
        .begin(frontendType[message.type])
        .byte(message.kind === "statement" ? 0x53 : 0x50)
        .string(message.name)
        .finish();
    case "Sync":
    case "Flush":
    case "Terminate":
    case "CopyDone":
      return writer.begin(frontendType[message.type]).finish();
    case "CopyData":
      return writer.message(frontendType.CopyData, message.data);
    case "CopyFail":
      return writer.begin(frontendType.CopyFail).string(message.message).finish();
    case "FunctionCall":
      writer.begin(frontendType.FunctionCall).uint32(message.functionOid);
      encodeValues(writer.uint16s(message.argumentFormats), message.arguments);
      return writer.int16(message.resultFormat).finish();
    case "PasswordMessage":
      return writer.begin(frontendType.PasswordMessage).string(message.password).finish();
    case "SASLInitialResponse":
      return writer.begin(frontendType.PasswordMessage).string(message.mechanism).value(message.data).finish();
    case "SASLResponse":
      return writer.message(frontendType.PasswordMessage, message.data);
  }
}

function encodeValues(writer: MessageWriter, values: readonly (Buffer | null)[]): void {
  writer.uint16(values.length);
  for (const value of values) writer.value(value);
}

export function encodeSSLRequest(writer: MessageWriter): MessageWriter {
  return writer.beginStartup().int32(80_877_103).finish();
}

export function encodeCancelRequest(writer: MessageWriter, request: Omit<CancelRequest, "type">): MessageWriter {
  return writer.beginStartup().int32(80_877_102).int32(request.processId).bytes(request.secretKey).finish();
}

/** @param minor of protocol 3. */
export function encodeStartupMessage(
  writer: MessageWriter,
  minor: number,
  parameters: Readonly<Record<string, string>>,
): MessageWriter {
  writer.beginStartup().int32((3 << 16) | minor);
  for (const [name, value] of Object.entries(parameters)) writer.string(name).string(value);
  return writer.byte(0).finish();
}
