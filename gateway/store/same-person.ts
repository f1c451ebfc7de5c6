/** When two identities count as one person: nobody decides for themselves, or twice. */

/** A person, as far as rules compare people. */
export interface Person {
  readonly issuer: string;
  readonly subject: string;
  /** Empty where it is not known. */
  readonly email: string;
}

/** Compared as people write addresses: case and Unicode form do not make another person. */
const canonicalEmail = (email: string) => email.trim().normalize("NFKC").toLowerCase();

/** One person by subject or by e-mail: two identities that share either could be the same hands. */
export function samePerson(a: Person, b: Person): boolean {
  if (a.issuer === b.issuer && a.subject === b.subject) return true;
  const email = canonicalEmail(a.email);
  return email !== "" && email === canonicalEmail(b.email);
}
