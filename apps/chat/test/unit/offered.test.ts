import { describe, expect, it } from 'vitest';
import type { Answer, Field, Form, Message, Shown } from '../../src/lib/engine/types';
import { answered, answerLines, answerSummary, asPerson, coordinates, dialled, filled, interactiveSummary, judge, mailed, mapOf, placeName, readCoordinates, totals } from '../../src/lib/chat/offered';
import { leadsTo } from '../../src/lib/chat/linkify';
import { summary } from '../../src/lib/chat/session.svelte';
import { BUTTONS, CONTACT_FORM, FORM, LIST, OFFER, PERSON, PLACE, PRODUCTS, TEMPLATE, WHERE } from '../../dev/offers';

function message(order: number, shown: Shown, over: Partial<Message> = {}): Message {
  return {
    ...{ order, id: `m${order}`, own: false, shown, replyTo: null, replaces: null, sentMs: 0, storedMs: 0, status: 'read', failure: null },
    ...{ edited: false, deleted: false, reactions: [], breach: false, by: null },
    ...over,
  };
}

const own = (order: number, replyTo: string, shown: Shown, over: Partial<Message> = {}) => message(order, shown, { own: true, replyTo, ...over });
const button = (title: string): Shown => ({ kind: 'answer', answer: { kind: 'button', id: title, title } });
const found = (list: Message[]) => [...answered(new Map(list.map((one) => [one.id, one])))].map(([offer, { id }]) => `${offer} by ${id}`);

describe('a message counts as answered', () => {
  it('by the newest own answer to it', () => {
    expect(found([message(1, BUTTONS), own(2, 'm1', button('a')), own(3, 'm1', button('b'))])).toEqual(['m1 by m3']);
    expect(found([own(3, 'm1', button('b')), message(1, BUTTONS), own(2, 'm1', button('a'))])).toEqual(['m1 by m3']);
  });

  it('not by one that failed, was taken back, is somebody else’s or says something else', () => {
    const no = (over: Partial<Message>, shown: Shown = button('a')) => expect(found([message(1, BUTTONS), own(2, 'm1', shown, over)])).toEqual([]);
    no({ status: 'failed' });
    no({ deleted: true });
    no({ own: false });
    no({ replyTo: 'm9' });
    no({}, { kind: 'text', text: 'yes' });
    no({}, PLACE);
    expect(found([message(1, { kind: 'text', text: 'Well?' }), own(2, 'm1', button('a'))])).toEqual([]);
  });

  it('by a place where a place was asked for, and by a card where it was asked how one is reached', () => {
    expect(found([message(1, WHERE), own(2, 'm1', PLACE)])).toEqual(['m1 by m2']);
    expect(found([message(1, CONTACT_FORM), own(2, 'm1', PERSON)])).toEqual(['m1 by m2']);
    expect(found([message(1, FORM), own(2, 'm1', PERSON)])).toEqual([]);
  });
});

const formOf = (shown: Shown): Form => {
  if (shown.kind !== 'interactive' || shown.interactive.action.kind !== 'form') throw new Error('no form');
  return shown.interactive.action.value;
};

describe('what was said', () => {
  it('is a line for quotes and announcements, whatever it is', () => {
    const line = (shown: Shown) => summary(message(1, shown));
    expect(line(BUTTONS)).toMatch(/^We have you down for four/);
    expect(line(OFFER)).toMatch(/^A second bag/);
    expect(line({ ...OFFER, interactive: { ...(OFFER as Extract<Shown, { kind: 'interactive' }>).interactive, body: '' } } as Shown)).toBe('File: beans.png');
    expect(line(button('Yes'))).toBe('✓ Yes');
    expect(line(PLACE)).toBe('Place: Cortado Coffee');
    expect(line(PERSON)).toBe('Contact: Ana Roaster');
    const headed = { header: { kind: 'location', value: { latitude: 1, longitude: 2, name: null, address: null } }, body: '', footer: null, action: { kind: 'nothing' }, template: null } as const;
    expect(interactiveSummary(headed)).toBe('Place: 1.00000, 2.00000');
  });

  it('is the choice, the form’s questions with their answers, or what was ordered and its total', () => {
    const lines = (answer: Answer, offer: Shown) => answerLines(answer, message(1, offer));
    expect(lines({ kind: 'row', id: 'huila', title: 'Huila', description: 'Caramel' }, LIST)).toEqual(['✓ Huila', 'Caramel']);
    const values = [{ name: 'street', values: ['Canal Street 5'] }, { name: 'extra', values: ['mug', 'filter'] }, { name: 'terms', values: ['true'] }];
    expect(lines({ kind: 'form', values }, FORM)).toEqual(['✓ Form filled in', 'Street and number: Canal Street 5', 'With it: A mug, Filters', 'I have read the terms: Yes']);
    const order: Answer = { kind: 'order', items: [{ id: 'yirga', quantity: 2 }, { id: 'mug', quantity: 1 }], text: 'Wrapped' };
    expect(lines(order, PRODUCTS)).toEqual(['2 × Yirgacheffe, 250 g', '1 × Mug', 'Total: €43.00', 'Wrapped']);
    expect(answerSummary(order)).toBe('Order: 3 items');
    // Without the message that it answers there are still its names.
    expect(answerLines(order, null)).toEqual(['2 × yirga', '1 × mug', 'Wrapped']);
    expect(answerLines({ kind: 'form', values: [{ name: 'a', values: ['b'] }] }, null)).toEqual(['✓ Form filled in', 'a: b']);
  });

  it('does not turn the direction of writing', () => {
    expect(answerLines({ kind: 'button', id: 'x', title: '\u202egnp.exe' }, message(1, TEMPLATE))).toEqual(['✓ gnp.exe']);
    expect(placeName({ latitude: 1, longitude: 2, name: '\u202eab', address: null })).toBe('ab');
  });

  it('sums each currency by itself', () => {
    const item = { name: 'x', description: null, section: null };
    const items = [{ ...item, id: 'a', price: 1_250, currency: 'EUR' }, { ...item, id: 'b', price: 2_000, currency: 'USD' }, { ...item, id: 'c', price: 1, currency: '€1x' }];
    expect(totals(items, new Map([['a', 3], ['b', 1]]))).toBe('€3.75 + US$2.00');
    expect(totals(items, new Map([['c', 2_000]]))).toBe('2 €1x');
    expect(totals(items, new Map())).toBe('');
  });
});

describe('a field is judged as the engine judges it', () => {
  const of = (kind: Field['kind'], over: Partial<Field> = {}): Field => ({ name: 'f', label: 'f', kind, required: false, options: [], hint: null, value: null, min: null, max: null, ...over });
  const options = [{ id: 'a', title: 'A' }, { id: 'b', title: 'B' }];

  it.each<[Field, string[], string | null]>([
    [of('text'), [], null],
    [of('text', { required: true }), [], 'missing'],
    [of('text', { required: true }), ['  '], 'missing'],
    [of('text', { min: 3 }), ['ab '], 'short'],
    [of('text', { max: 2 }), ['👍👍'], null],
    [of('text', { max: 2 }), ['abc'], 'long'],
    [of('email', { max: 2 }), ['ana@example.org'], null],
    [of('number'), ['12.5'], null],
    [of('number'), ['-1e3'], null],
    [of('number'), ['12,5'], 'number'],
    [of('number'), ['0x10'], 'number'],
    [of('number'), ['1e999'], 'number'],
    [of('email'), ['ana@example.org'], null],
    [of('email'), ['ana@example'], 'email'],
    [of('email'), ['a b@example.org'], 'email'],
    [of('email'), ['ana@@example.org'], 'email'],
    [of('email'), ['ana@example..org'], 'email'],
    [of('email'), [`${'a'.repeat(250)}@b.org`], 'email'],
    [of('phone'), ['+49 (30) 123-45/6.7'], null],
    [of('phone'), ['12'], 'phone'],
    [of('phone'), ['1234567890123456'], 'phone'],
    [of('phone'), ['call me 123'], 'phone'],
    [of('date'), ['2028-02-29'], null],
    [of('date'), ['2027-02-29'], 'date'],
    [of('date'), ['2027-13-01'], 'date'],
    [of('date'), ['1.2.2027'], 'date'],
    [of('one', { options }), ['b'], null],
    [of('one', { options }), ['c'], 'option'],
    [of('some', { options }), ['a', 'b'], null],
    [of('some', { options }), ['a', 'c'], 'option'],
    [of('yes'), ['false'], null],
    [of('yes', { required: true }), ['false'], 'missing'],
    [of('yes', { required: true }), ['true'], null],
  ])('%j: %j is %s', (field, values, want) => expect(judge(field, values)).toBe(want));

  it('and what has no answer is not sent', () => {
    const values = new Map([['street', [' Canal Street 5 ']], ['mail', ['']], ['terms', ['true']]]);
    expect(filled(formOf(FORM), values)).toEqual([{ name: 'street', values: ['Canal Street 5'] }, { name: 'terms', values: ['true'] }]);
  });

  it('and who is asked how to be reached answers with a card that has a name', () => {
    const form = formOf(CONTACT_FORM);
    const values = [{ name: 'name', values: ['Ana'] }, { name: 'phone', values: ['+4930123'] }];
    expect(asPerson(form, values)).toEqual({ name: { formatted_name: 'Ana' }, phones: [{ phone: '+4930123', type: 'CELL' }], emails: [] });
    expect(asPerson(form, values.slice(1)).name).toEqual({ formatted_name: '+4930123' });
  });
});

describe('places', () => {
  it.each<[string, [number, number] | null]>([
    ['52.52, 13.405', [52.52, 13.405]],
    ['52,52 13,405', [52.52, 13.405]],
    ['52,52; 13,405', [52.52, 13.405]],
    ['-33.8,151', [-33.8, 151]],
    [' geo:52.52,13.405;u=35?z=16 ', [52.52, 13.405]],
    ['91, 0', null],
    ['0, 181', null],
    ['52.52', null],
    ['Market Square 3', null],
    ['52.52, 13.405, 7', null],
    ['', null],
  ])('%s', (text, want) => expect(readCoordinates(text)).toEqual(want && { latitude: want[0], longitude: want[1] }));

  it('have five decimals, a metre, and a map that is opened by a press', () => {
    expect(coordinates({ latitude: 52.5170365, longitude: -13.38886 })).toBe('52.51704, -13.38886');
    expect(mapOf({ latitude: 1.5, longitude: -2, name: null, address: null }).href).toBe('https://openstreetmap.org/?mlat=1.5&mlon=-2#map=16/1.5/-2');
  });
});

it('links are made of what can be one, and of nothing else', () => {
  expect(dialled('+49 (30) 123-4567')).toBe('+49301234567');
  expect(dialled('12+34')).toBe('1234');
  expect(dialled('*#06#')).toBe('06');
  expect(dialled('javascript:1')).toBeNull();
  expect(mailed('ana@cortado.example')).toBe('mailto:ana@cortado.example');
  expect(mailed('ana@cortado.example?bcc=x@evil.example')).toBeNull();
  expect(mailed('a@b')).toBeNull();
  expect(leadsTo('https://cortado.example/a')).toEqual({ href: 'https://cortado.example/a', host: 'cortado.example' });
  expect(leadsTo('https://раypal.example/')?.host).toMatch(/^xn--/);
  expect(leadsTo('https://bank.example@evil.example/')).toBeNull();
  expect(leadsTo('javascript:alert(1)')).toBeNull();
});
