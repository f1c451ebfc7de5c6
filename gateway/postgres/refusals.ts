/** What the gateway refuses whatever policy says, as PostgreSQL's own errors; and how a hold is told. */
import type { Obligations } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { HoldNotice } from "../session/approvals.ts";
import { nativeError } from "./diagnostics.ts";
import { escapesObligations } from "./enforced-settings.ts";
import type { FrontendMessage, NoticeFields, Unreadable } from "./messages.ts";
import type { Resolved } from "./session-names.ts";
import { refusedSetting } from "./text-settings.ts";

/** NAMEDATALEN - 1 */
const nameBytesMax = 63;

const nameTooLong: NoticeFields = {
  ...nativeError("42622", `a name of a prepared statement or portal may have ${nameBytesMax} bytes`),
  H: "Use a shorter name.",
};
export const madeAnew: NoticeFields = {
  ...nativeError("0A000", "what this portal executes or fetches by name was made anew since it was bound"),
  H: "Bind it again.",
};
const unaccountable: NoticeFields = {
  ...nativeError("0A000", "EXECUTE or FETCH of what is no query is not supported through this gateway"),
  H: "Send the statement that was prepared itself.",
};
const escapes: NoticeFields = {
  ...nativeError("0A000", "what policy obliges this command to could be lifted by one of its statements"),
  H: "Run SET, RESET, DISCARD, ROLLBACK, DO and functions of users as a query of their own.",
};

export const functionCall: NoticeFields = {
  ...nativeError("0A000", "function calls by message are not supported"),
  H: "Call the function with SELECT.",
};
/** As the target says it of what it was running. */
export const cancelled = nativeError("57014", "canceling statement due to user request");
export const notInEncoding = nativeError("22021", 'invalid byte sequence for encoding "UTF8"');

/** With PostgreSQL's routine: by it drivers know to prepare again. */
export function absentStatement(name: string): NoticeFields {
  return name === ""
    ? { ...nativeError("26000", "unnamed prepared statement does not exist"), R: "exec_bind_message" }
    : { ...nativeError("26000", `prepared statement "${name}" does not exist`), R: "FetchPreparedStatement" };
}

export function absentPortal(name: string, type: "Describe" | "Execute"): NoticeFields {
  const routine = type === "Execute" ? "exec_execute_message" : "exec_describe_portal_message";
  return { ...nativeError("34000", `portal "${name}" does not exist`), R: routine };
}

/** A permitted command after which the session could not go on as it was judged. */
export function refusalOf(
  command: Resolved,
  analysis: CommandAnalysis,
  obligations: Obligations | undefined,
): NoticeFields | undefined {
  const { plain, statements } = command;
  if (command.unaccountable) return unaccountable;
  const setting = plain ? undefined : refusedSetting(statements);
  if (setting !== undefined) return setting;
  return escapesObligations(analysis, statements.length, obligations) ? escapes : undefined;
}

/** PostgreSQL tells names apart by so many bytes: two that begin alike would be one there, and two here. */
export function refusedName(message: FrontendMessage | Unreadable): NoticeFields | undefined {
  return hasLongName(message) ? nameTooLong : undefined;
}

function hasLongName(message: FrontendMessage | Unreadable): boolean {
  switch (message.type) {
    case "Parse":
      return isTooLong(message.statement);
    case "Bind":
      return isTooLong(message.portal) || isTooLong(message.statement);
    case "Execute":
      return isTooLong(message.portal);
    case "Describe":
    case "Close":
      return isTooLong(message.name);
    default:
      return false;
  }
}

const isTooLong = (name: string) => name.length > nameBytesMax / 3 && Buffer.byteLength(name) > nameBytesMax;

export function holdFields(notice: HoldNotice): NoticeFields {
  const until = new Date(notice.expiresAtMs).toISOString().replace(/\.\d+Z$/, "Z");
  const people = notice.count === 1 ? "a member" : `${notice.count} members`;
  return {
    S: "NOTICE",
    V: "NOTICE",
    C: "00000",
    M: `held for approval ${notice.id}: ${people} of ${notice.from.join(", ")} may approve until ${until}`,
    H: `Approver: sallyport approve ${notice.id}. Cancel (Ctrl-C) to withdraw it.`,
  };
}
