/** Encodes messages to a client from their decoded form. */
import { type BackendMessage, backendType } from "./messages.ts";
import type { MessageWriter } from "./writer.ts";

export function encodeBackendMessage(writer: MessageWriter, message: BackendMessage): MessageWriter {
  switch (message.type) {
    case "DataRow":
      return encodeDataRow(writer, message.fields);
    case "RowDescription":
      writer.begin(backendType.RowDescription).uint16(message.fields.length);
      for (const field of message.fields) {
        writer.string(field.name).uint32(field.tableOid).int16(field.attnum).uint32(field.typeOid);
        writer.int16(field.typeSize).int32(field.modifier).int16(field.format);
      }
      return writer.finish();
    case "CommandComplete":
      return writer.begin(backendType.CommandComplete).string(message.tag).finish();
    case "ReadyForQuery":
      return writer.begin(backendType.ReadyForQuery).byte(message.status.charCodeAt(0)).finish();
    case "ErrorResponse":
    case "NoticeResponse":
      writer.begin(backendType[message.type]);
      for (const [letter, text] of Object.entries(message.fields)) writer.byte(letter.charCodeAt(0)).string(text);
      return writer.byte(0).finish();
    case "ParameterStatus":
      return writer.begin(backendType.ParameterStatus).string(message.name).string(message.value).finish();
    case "ParameterDescription":
      writer.begin(backendType.ParameterDescription).uint16(message.typeOids.length & 0xffff);
      for (const oid of message.typeOids) writer.uint32(oid);
      return writer.finish();
    case "CopyData":
      return writer.message(backendType.CopyData, message.data);
    case "CopyInResponse":
    case "CopyOutResponse":
    case "CopyBothResponse":
      return writer.begin(backendType[message.type]).byte(message.format).uint16s(message.columnFormats).finish();
    case "EmptyQueryResponse":
    case "ParseComplete":
    case "BindComplete":
    case "CloseComplete":
    case "NoData":
    case "PortalSuspended":
    case "CopyDone":
      return writer.begin(backendType[message.type]).finish();
    case "BackendKeyData":
      return writer.begin(backendType.BackendKeyData).int32(message.processId).bytes(message.secretKey).finish();
    case "NotificationResponse":
      writer.begin(backendType.NotificationResponse).int32(message.processId);
      return writer.string(message.channel).string(message.payload).finish();
    case "NegotiateProtocolVersion":
      // The documentation says "minor version"; every server sends the whole version number.
      writer.begin(backendType.NegotiateProtocolVersion).int32((3 << 16) | message.minor);
      writer.int32(message.unrecognized.length);
      for (const name of message.unrecognized) writer.string(name);
      return writer.finish();
    case "FunctionCallResponse":
      return writer.begin(backendType.FunctionCallResponse).value(message.result).finish();
    case "AuthenticationOk":
      return writer.begin(backendType.Authentication).int32(0).finish();
    case "AuthenticationCleartextPassword":
      return writer.begin(backendType.Authentication).int32(3).finish();
    case "AuthenticationMD5Password":
      return writer.begin(backendType.Authentication).int32(5).bytes(message.salt).finish();
    case "AuthenticationSASL":
      writer.begin(backendType.Authentication).int32(10);
      for (const mechanism of message.mechanisms) writer.string(mechanism);
      return writer.byte(0).finish();
    case "AuthenticationSASLContinue":
      return writer.begin(backendType.Authentication).int32(11).bytes(message.data).finish();
    case "AuthenticationSASLFinal":
      return writer.begin(backendType.Authentication).int32(12).bytes(message.data).finish();
    case "AuthenticationUnsupported":
      return writer.begin(backendType.Authentication).int32(message.code).finish();
  }
}

export function encodeDataRow(writer: MessageWriter, fields: readonly (Uint8Array | null)[]): MessageWriter {
  writer.begin(backendType.DataRow).uint16(fields.length);
  for (const field of fields) writer.value(field);
  return writer.finish();
}
