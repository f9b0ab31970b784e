/**
 * What a message offers, and what was answered to it. Pure. The engine judges an answer again before it leaves, and the business's gateway once more
 * (`content/answer.rs`): what stands here says it before, beside the field.
 */
import type { Answer, Field, Form, Interactive, Location, Message, MessageId, Person, Product } from '../engine/types';
import { money, plural, t } from '../i18n';
import { plainName, plainText } from './plain';

/** Of one thing to buy, at most. */
export const MOST_OF_ONE = 99;

/** Whether this is an answer of the kind that the message asks for. */
function answers(offer: Message, message: Message): boolean {
  if (offer.shown.kind !== 'interactive') return false;
  const { action } = offer.shown.interactive;
  switch (message.shown.kind) {
    case 'answer':
      return true;
    case 'location':
      return action.kind === 'location';
    case 'contacts':
      return action.kind === 'form' && action.value.kind === 'contact';
    default:
      return false;
  }
}

/** The newest own answer to each message that asked for one. What could not be delivered or was taken back is none. */
export function answered(byId: ReadonlyMap<MessageId, Message>): Map<MessageId, Message> {
  const found = new Map<MessageId, Message>();
  for (const message of byId.values()) {
    const offer = message.own && message.replyTo !== null && message.status !== 'failed' && !message.deleted ? byId.get(message.replyTo) : undefined;
    if (!offer || !answers(offer, message)) continue;
    const before = found.get(offer.id);
    if (!before || before.order < message.order) found.set(offer.id, message);
  }
  return found;
}

/** What a message with something to choose says, on one line. */
export function interactiveSummary({ header, body }: Interactive): string {
  if (body) return plainText(body);
  return header?.kind === 'text' ? plainName(header.value) : header?.kind === 'location' ? placeSummary(header.value) : '';
}

export function placeSummary(place: Location): string {
  return t('place.summary', { what: placeName(place) });
}

/** What a place is called, or where it is. */
export function placeName({ name, address, latitude, longitude }: Location): string {
  return [name, address].map((text) => (text ? plainName(text) : '')).find(Boolean) ?? coordinates({ latitude, longitude });
}

export function coordinates({ latitude, longitude }: Pick<Location, 'latitude' | 'longitude'>): string {
  return `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
}

// A comma is in each of the two numbers or between them: first the one that is written with more care.
const WITH_COMMAS = /^([+-]?\d{1,3},\d+)[;\s]\s*([+-]?\d{1,3},\d+)$/;
const WITH_POINTS = /^([+-]?\d{1,3}(?:\.\d+)?)\s*[,;\s]\s*([+-]?\d{1,3}(?:\.\d+)?)$/;

/** Latitude and longitude as people copy them: `52.52, 13.405`, `52,52 13,405`, `geo:52.52,13.405?z=16`. */
export function readCoordinates(text: string): { latitude: number; longitude: number } | null {
  const bare = text.trim().replace(/^geo:([^?;]*).*$/i, '$1');
  const match = WITH_COMMAS.exec(bare) ?? WITH_POINTS.exec(bare);
  if (!match) return null;
  const [latitude, longitude] = [match[1]!, match[2]!].map((part) => Number(part.replace(',', '.'))) as [number, number];
  return Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 ? { latitude, longitude } : null;
}

/** Where a map shows it. Only a press leads there: nothing is fetched from there before. */
export function mapOf({ latitude, longitude }: Location): { href: string; host: string } {
  const host = 'openstreetmap.org';
  return { href: `https://${host}/?mlat=${latitude}&mlon=${longitude}#map=16/${latitude}/${longitude}`, host };
}

/** Digits and what stands between them, for a `tel:` link; null if nothing is left to dial. */
export function dialled(number: string): string | null {
  const digits = number.replace(/[^\d+]/g, '').replace(/(?!^)\+/g, '');
  return /^\+?\d{2,20}$/.test(digits) ? digits : null;
}

/** A `mailto:` link; null if it is no address, or one that would say more than where to. */
export function mailed(address: string): string | null {
  return /^[\w.+-]+@[\w-]+(\.[\w-]+)+$/.test(address) ? `mailto:${address}` : null;
}

export function personSummary(persons: Person[]): string {
  return t('person.summary', { names: persons.map((person) => plainName(person.name.formatted_name ?? '')).join(', ') });
}

/** What was answered, in lines: the choice, or the form's questions with their answers. */
export function answerLines(answer: Answer, offer: Message | null): string[] {
  const offered = offer?.shown.kind === 'interactive' ? offer.shown.interactive.action : null;
  switch (answer.kind) {
    case 'button':
      return [`✓ ${plainName(answer.title)}`];
    case 'row':
      return [`✓ ${plainName(answer.title)}`, ...(answer.description ? [plainName(answer.description)] : [])];
    case 'form': {
      const fields = offered?.kind === 'form' ? offered.value.screens.flatMap((screen) => screen.fields) : [];
      const lines = answer.values.map(({ name, values }) => {
        const field = fields.find((one) => one.name === name);
        return `${plainName(field?.label || name)}: ${values.map((value) => valueText(field, value)).join(', ')}`;
      });
      return [`✓ ${t('form.filled')}`, ...lines];
    }
    case 'order': {
      const items = offered?.kind === 'products' ? offered.value.items : [];
      const lines = answer.items.map(({ id, quantity }) => `${quantity} × ${plainName(items.find((item) => item.id === id)?.name ?? id)}`);
      const total = totals(items, new Map(answer.items.map(({ id, quantity }) => [id, quantity])));
      return [...lines, ...(total ? [t('products.totalLine', { total })] : []), ...(answer.text ? [plainText(answer.text)] : [])];
    }
  }
}

export function answerSummary(answer: Answer): string {
  switch (answer.kind) {
    case 'button':
    case 'row':
      return `✓ ${plainName(answer.title)}`;
    case 'form':
      return `✓ ${t('form.filled')}`;
    case 'order':
      return plural('products.ordered', answer.items.reduce((sum, { quantity }) => sum + quantity, 0));
  }
}

function valueText(field: Field | undefined, value: string): string {
  if (field?.kind === 'yes') return t(value === 'true' ? 'form.yes' : 'form.no');
  return plainText(field?.options.find(({ id }) => id === value)?.title ?? value);
}

/** What was chosen of each product costs so much: a sum for each currency. Empty where nothing is chosen. */
export function totals(items: Product[], quantities: ReadonlyMap<string, number>): string {
  const sums = new Map<string, number>();
  for (const { id, price, currency } of items) {
    const quantity = quantities.get(id) ?? 0;
    if (quantity) sums.set(currency, (sums.get(currency) ?? 0) + quantity * price);
  }
  return [...sums].map(([currency, sum]) => money(sum, currency)).join(' + ');
}

export type FieldProblem = 'missing' | 'number' | 'email' | 'phone' | 'date' | 'option' | 'short' | 'long';

/** Why values do not answer a field; null if they do. The same rules as the engine's (`Field::judge`). */
export function judge(field: Field, values: readonly string[]): FieldProblem | null {
  const given = values.map((value) => value.trim()).filter(Boolean);
  const first = given[0];
  if (first === undefined || (field.kind === 'yes' && field.required && first !== 'true')) return field.required ? 'missing' : null;
  switch (field.kind) {
    case 'number':
      if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(first) || !Number.isFinite(Number(first))) return 'number';
      break;
    case 'email':
      if (!/^[^\s@<>",]+@[^\s@<>",.]+(\.[^\s@<>",.]+)+$/u.test(first) || new TextEncoder().encode(first).length > 254) return 'email';
      break;
    case 'phone':
      if (!/^\+?[\d \-./()]*$/.test(first) || !(count(first, /\d/g) >= 3 && count(first, /\d/g) <= 15)) return 'phone';
      break;
    case 'date':
      if (!isDay(first)) return 'date';
      break;
    case 'one':
    case 'some':
      if (!given.every((id) => field.options.some((option) => option.id === id))) return 'option';
      break;
  }
  const length = [...first].length;
  if (field.kind !== 'text' && field.kind !== 'area' && field.kind !== 'number') return null;
  if (field.min !== null && length < field.min) return 'short';
  return field.max !== null && length > field.max ? 'long' : null;
}

const count = (text: string, what: RegExp) => text.match(what)?.length ?? 0;

function isDay(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false;
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

/** What is sent of a form: fields without an answer are not there. */
export function filled(form: Form, values: ReadonlyMap<string, readonly string[]>): { name: string; values: string[] }[] {
  return form.screens
    .flatMap((screen) => screen.fields)
    .map(({ name }) => ({ name, values: (values.get(name) ?? []).map((value) => value.trim()).filter(Boolean) }))
    .filter(({ values }) => values.length > 0);
}

/** The card that a form which asks how one can be reached is answered with. It has a name in any case. */
export function asPerson(form: Form, values: { name: string; values: string[] }[]): Person {
  const fields = form.screens.flatMap((screen) => screen.fields);
  const of = (kind: Field['kind']) => fields.filter((field) => field.kind === kind).flatMap(({ name }) => values.find((value) => value.name === name)?.values ?? []);
  const [phones, emails] = [of('phone'), of('email')];
  const called = values.find(({ name }) => name === 'name')?.values[0] ?? of('text')[0] ?? phones[0] ?? emails[0] ?? '';
  return { name: { formatted_name: called }, phones: phones.map((phone) => ({ phone, type: 'CELL' })), emails: emails.map((email) => ({ email, type: 'HOME' })) };
}
