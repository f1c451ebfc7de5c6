/** A PostgreSQL client for tests that sends messages as they are given, and says what came back. */
import { decodeBackendMessage } from "../../gateway/postgres/backend-decoder.ts";
import { encodeFrontendMessage } from "../../gateway/postgres/frontend-encoder.ts";
import type { BackendMessage, FrontendMessage } from "../../gateway/postgres/messages.ts";
import { FrameReader } from "../../gateway/postgres/reader.ts";
import { connectUpstream } from "../../gateway/postgres/upstream.ts";
import { MessageWriter } from "../../gateway/postgres/writer.ts";

export interface WireClientOptions {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly parameters?: Record<string, string>;
  /** How an answer is told. */
  readonly tell?: (message: BackendMessage) => string;
}

/** As far as most tests ask: "SELECT 1" for a command's tag, "ERROR 42P01", the type of any other. */
export function tellBriefly(message: BackendMessage): string {
  if (message.type === "CommandComplete") return message.tag;
  if (message.type === "ErrorResponse") return `${message.fields.V} ${message.fields.C}`;
  if (message.type === "NotificationResponse") return `notified by ${message.processId}`;
  return message.type;
}

export async function connectWire({ parameters = {}, tell = tellBriefly, ...options }: WireClientOptions) {
  const connection = await connectUpstream({ ...options, host: "127.0.0.1", tls: "disable", parameters });
  const reader = new FrameReader({ messageBytesMax: 1_000_000 });
  const received: string[] = [];
  let wake = () => {};
  let closed = false;
  connection.onData((chunk) => {
    reader.push(chunk);
    for (const frame of reader) received.push(tell(decodeBackendMessage(frame)));
    wake();
  });
  connection.onClose(() => {
    closed = true;
    wake();
  });
  const until = async (reached: () => boolean) => {
    while (!reached()) await new Promise<void>((resolve) => (wake = resolve));
    return received.splice(0);
  };
  const send = (...messages: FrontendMessage[]) => {
    const writer = new MessageWriter();
    for (const message of messages) encodeFrontendMessage(writer, message);
    return connection.write(writer.take());
  };
  return {
    send,
    sendBytes: (bytes: Buffer) => connection.write(bytes),
    /** Sends, and waits for as many ReadyForQuery as the messages ask for. */
    async exchange(...messages: FrontendMessage[]): Promise<string[]> {
      const owed = messages.filter(({ type }) => type === "Sync" || type === "Query").length;
      send(...messages);
      return until(() => closed || received.filter((answer) => answer.startsWith("ReadyForQuery")).length >= owed);
    },
    /** Waits for an answer of this kind. */
    until: (answer: string) => until(() => closed || received.includes(answer)),
    untilClosed: () => until(() => closed),
    get bufferedBytes() {
      return connection.bufferedBytes;
    },
    processId: connection.processId,
    /** Asks for a cancel, and waits until the other side has closed that connection. */
    cancel: () => connection.cancel(),
    end: () => connection.end(),
    destroy: () => connection.destroy(),
  };
}

export const query = (text: string): FrontendMessage => ({ type: "Query", query: text });
export const parse = (text: string, statement = ""): FrontendMessage => ({
  ...{ type: "Parse", query: text, statement, parameterTypeOids: [] },
});
export const bind = (statement = "", portal = ""): FrontendMessage => ({
  ...{ type: "Bind", statement, portal, parameterFormats: [], parameters: [], resultFormats: [] },
});
export const execute = (portal = "", rowsMax = 0): FrontendMessage => ({ type: "Execute", portal, rowsMax });
export const sync: FrontendMessage = { type: "Sync" };
