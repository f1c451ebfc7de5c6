/**
 * The messages of PostgreSQL's frontend/backend protocol 3.x, named as its documentation has them
 * ("Frontend/Backend Protocol", "Message Formats").
 */

export type FormatCode = 0 | 1;

// --- from the client, before the first typed message ---

export interface SSLRequest {
  readonly type: "SSLRequest";
}
export interface GSSENCRequest {
  readonly type: "GSSENCRequest";
}
export interface CancelRequest {
  readonly type: "CancelRequest";
  readonly processId: number;
  /** 4 bytes in protocol 3.0, 4 to 256 in 3.2. */
  readonly secretKey: Buffer;
}
export interface StartupMessage {
  readonly type: "StartupMessage";
  /** Minor version the client asked for; the major one is 3. */
  readonly minor: number;
  readonly parameters: ReadonlyMap<string, string>;
}
export type StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage;

// --- from the client ---

export interface Query {
  readonly type: "Query";
  readonly query: string;
}
export interface Parse {
  readonly type: "Parse";
  /** Name of the prepared statement; "" is the unnamed one. */
  readonly statement: string;
  readonly query: string;
  readonly parameterTypeOids: readonly number[];
}
export interface Bind {
  readonly type: "Bind";
  readonly portal: string;
  readonly statement: string;
  readonly parameterFormats: readonly FormatCode[];
  /** Views of the received bytes; null is SQL's NULL. */
  readonly parameters: readonly (Buffer | null)[];
  readonly resultFormats: readonly FormatCode[];
}
export interface Execute {
  readonly type: "Execute";
  readonly portal: string;
  /** 0 is "no limit". */
  readonly rowsMax: number;
}
export interface Describe {
  readonly type: "Describe";
  readonly kind: "statement" | "portal";
  readonly name: string;
}
export interface Close {
  readonly type: "Close";
  readonly kind: "statement" | "portal";
  readonly name: string;
}
export interface Sync {
  readonly type: "Sync";
}
export interface Flush {
  readonly type: "Flush";
}
export interface Terminate {
  readonly type: "Terminate";
}
export interface CopyData {
  readonly type: "CopyData";
  readonly data: Buffer;
}
export interface CopyDone {
  readonly type: "CopyDone";
}
export interface CopyFail {
  readonly type: "CopyFail";
  readonly message: string;
}
export interface FunctionCall {
  readonly type: "FunctionCall";
  readonly functionOid: number;
  readonly argumentFormats: readonly FormatCode[];
  readonly arguments: readonly (Buffer | null)[];
  readonly resultFormat: FormatCode;
}
/** A message whose text is not UTF-8, which PostgreSQL fails without ending the session; it is never forwarded. */
export interface Unreadable {
  readonly type: "Unreadable";
  readonly message: "Query" | "Parse" | "Bind" | "Execute" | "Describe" | "Close";
}
export type FrontendMessage =
  | Query
  | Parse
  | Bind
  | Execute
  | Describe
  | Close
  | Sync
  | Flush
  | Terminate
  | CopyData
  | CopyDone
  | CopyFail
  | FunctionCall;

// The type byte "p" says one of these three; which one is known by what the server asked for.
export interface PasswordMessage {
  readonly type: "PasswordMessage";
  readonly password: string;
}
export interface SASLInitialResponse {
  readonly type: "SASLInitialResponse";
  readonly mechanism: string;
  readonly data: Buffer | null;
}
export interface SASLResponse {
  readonly type: "SASLResponse";
  readonly data: Buffer;
}

// --- from the server ---

export type Authentication =
  | { readonly type: "AuthenticationOk" }
  | { readonly type: "AuthenticationCleartextPassword" }
  | { readonly type: "AuthenticationMD5Password"; readonly salt: Buffer }
  | { readonly type: "AuthenticationSASL"; readonly mechanisms: readonly string[] }
  | { readonly type: "AuthenticationSASLContinue"; readonly data: Buffer }
  | { readonly type: "AuthenticationSASLFinal"; readonly data: Buffer }
  /** Kerberos, GSSAPI, SSPI and whatever comes next. */
  | { readonly type: "AuthenticationUnsupported"; readonly code: number };

export interface BackendKeyData {
  readonly type: "BackendKeyData";
  readonly processId: number;
  readonly secretKey: Buffer;
}
export interface ParameterStatus {
  readonly type: "ParameterStatus";
  readonly name: string;
  readonly value: string;
}
/** Idle, in a transaction block, in a failed transaction block. */
export type TransactionStatus = "I" | "T" | "E";
export interface ReadyForQuery {
  readonly type: "ReadyForQuery";
  readonly status: TransactionStatus;
}
export interface FieldDescription {
  readonly name: string;
  /** 0 when the field is not a plain column of a table. */
  readonly tableOid: number;
  /** Column number in that table; 0 with a table is the whole row. */
  readonly attnum: number;
  readonly typeOid: number;
  readonly typeSize: number;
  readonly modifier: number;
  readonly format: FormatCode;
}
export interface RowDescription {
  readonly type: "RowDescription";
  readonly fields: readonly FieldDescription[];
}
export interface DataRow {
  readonly type: "DataRow";
  readonly fields: readonly (Buffer | null)[];
}
export interface CommandComplete {
  readonly type: "CommandComplete";
  readonly tag: string;
}
/** Fields by their letter: S and V severity, C SQLSTATE, M message, D detail, H hint, P position, … */
export interface NoticeFields {
  readonly [letter: string]: string;
}
export interface ErrorResponse {
  readonly type: "ErrorResponse";
  readonly fields: NoticeFields;
}
export interface NoticeResponse {
  readonly type: "NoticeResponse";
  readonly fields: NoticeFields;
}
export interface CopyResponse {
  readonly type: "CopyInResponse" | "CopyOutResponse" | "CopyBothResponse";
  readonly format: FormatCode;
  readonly columnFormats: readonly FormatCode[];
}
export interface ParameterDescription {
  readonly type: "ParameterDescription";
  readonly typeOids: readonly number[];
}
export interface NotificationResponse {
  readonly type: "NotificationResponse";
  readonly processId: number;
  readonly channel: string;
  readonly payload: string;
}
export interface NegotiateProtocolVersion {
  readonly type: "NegotiateProtocolVersion";
  readonly minor: number;
  readonly unrecognized: readonly string[];
}
export interface FunctionCallResponse {
  readonly type: "FunctionCallResponse";
  readonly result: Buffer | null;
}
export interface BareBackendMessage {
  readonly type:
    | "EmptyQueryResponse"
    | "ParseComplete"
    | "BindComplete"
    | "CloseComplete"
    | "NoData"
    | "PortalSuspended";
}
export type BackendMessage =
  | Authentication
  | BackendKeyData
  | ParameterStatus
  | ReadyForQuery
  | RowDescription
  | DataRow
  | CommandComplete
  | ErrorResponse
  | NoticeResponse
  | CopyResponse
  | CopyData
  | CopyDone
  | ParameterDescription
  | NotificationResponse
  | NegotiateProtocolVersion
  | FunctionCallResponse
  | BareBackendMessage;

/** Type bytes of messages from the client. */
export const frontendType = {
  Query: 0x51,
  Parse: 0x50,
  Bind: 0x42,
  Execute: 0x45,
  Describe: 0x44,
  Close: 0x43,
  Sync: 0x53,
  Flush: 0x48,
  Terminate: 0x58,
  CopyData: 0x64,
  CopyDone: 0x63,
  CopyFail: 0x66,
  FunctionCall: 0x46,
  /** PasswordMessage, SASLInitialResponse, SASLResponse. */
  PasswordMessage: 0x70,
} as const;

/** Type bytes of messages from the server. */
export const backendType = {
  Authentication: 0x52,
  BackendKeyData: 0x4b,
  ParameterStatus: 0x53,
  ReadyForQuery: 0x5a,
  RowDescription: 0x54,
  DataRow: 0x44,
  CommandComplete: 0x43,
  EmptyQueryResponse: 0x49,
  ErrorResponse: 0x45,
  NoticeResponse: 0x4e,
  CopyInResponse: 0x47,
  CopyOutResponse: 0x48,
  CopyBothResponse: 0x57,
  CopyData: 0x64,
  CopyDone: 0x63,
  ParameterDescription: 0x74,
  ParseComplete: 0x31,
  BindComplete: 0x32,
  CloseComplete: 0x33,
  NoData: 0x6e,
  PortalSuspended: 0x73,
  NotificationResponse: 0x41,
  NegotiateProtocolVersion: 0x76,
  FunctionCallResponse: 0x56,
} as const;
