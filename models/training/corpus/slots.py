"""What functions take: the parameters' names, their JSON schemas, their values, and how requests
mention them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from corpus import words
from corpus.dice import Dice

Maker = Callable[[Dice], Any]
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter. `ways` are how a request of a made-up function may mention its value."""

    names: tuple[str, ...]
    schema: Schema
    value: Maker
    ways: tuple[str, ...] = ()

    @property
    def is_loose(self) -> bool:
        """Whether a value has several words, so that nothing in it shows where it ends."""
        return self.value in (some_words, some_text, Dice.topic)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A slot under the name that a function gives it; `key` stands for it in requests."""

    name: str
    key: str
    slot: Slot
    required: bool = True

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    @property
    def silent_value(self) -> Any:
        """What is passed for a required parameter that a request does not mention."""
        return self.slot.schema["enum"][0]


def text(names: str, value: Maker, ways: str = "") -> Slot:
    return Slot(_split(names), {"type": "string"}, value, _split(ways))


def whole(names: str, low: int = 1, high: int = 100, ways: str = "") -> Slot:
    schema = {"type": "integer"}
    return Slot(_split(names), schema, lambda dice: dice.between(low, high), _split(ways))


def number(names: str, value: Maker, ways: str = "") -> Slot:
    return Slot(_split(names), {"type": "number"}, value, _split(ways))


def choice(names: str, options: Sequence[str], ways: str = "") -> Slot:
    schema = {"type": "string", "enum": list(options)}
    return Slot(_split(names), schema, lambda dice: dice.pick(options), _split(ways))


def listing(names: str, maker: Maker) -> Slot:
    schema = {"type": "array", "items": {"type": "string"}}
    return Slot(
        _split(names), schema, lambda dice: [maker(dice) for _ in range(dice.between(2, 3))]
    )


def truth(names: str) -> Slot:
    return Slot(_split(names), {"type": "boolean"}, lambda dice: dice.chance(0.5))


def _split(line: str) -> tuple[str, ...]:
    return tuple(line.split("|")) if line else ()


def some_words(dice: Dice) -> str:
    return dice.phrase(1, 3)


def some_text(dice: Dice) -> str:
    return dice.phrase(2, 6)


def firm_value(dice: Dice) -> str:
    kinds = [
        dice.name,
        dice.city,
        dice.code,
        dice.word,
        dice.email,
        dice.date,
        dice.title,
        dice.noise,
    ]
    return dice.pick(kinds)()


def several(dice: Dice) -> list[str]:
    maker = dice.pick([dice.word, dice.word, dice.title, dice.code, dice.name])
    return [maker() for _ in range(dice.between(2, 3))]


def room(dice: Dice) -> str:
    return dice.pick([*words.ROOMS, dice.invented(), dice.invented(), dice.word()])


def country(dice: Dice) -> str:
    known = words.COUNTRIES_HELD_OUT if dice.held_out else words.COUNTRIES
    return dice.pick(known) if dice.chance(0.5) else dice.title()


def street(dice: Dice) -> str:
    kind = dice.pick(["Street", "Road", "Lane", "Avenue"])
    return f"{dice.between(1, 200)} {dice.title()} {kind}"


def service(dice: Dice) -> str:
    return dice.pick([dice.invented(), f"{dice.invented()}-{dice.word()}", dice.word()])


def short_name(dice: Dice) -> str:
    return dice.pick([dice.title, dice.title, dice.invented, dice.word, dice.name])()


def ticker(dice: Dice) -> str:
    return dice.invented()[:4].upper()


def money(dice: Dice) -> float:
    return dice.decimal() if dice.chance(0.5) else dice.number()


def plate(dice: Dice) -> str:
    letters = "".join(dice.pick("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(dice.between(2, 4)))
    return f"{letters}{dice.pick([' ', '-', ''])}{dice.digits(2, 4)}"


def version(dice: Dice) -> str:
    parts = ".".join(str(dice.between(0, 30)) for _ in range(dice.between(2, 3)))
    return dice.pick(["", "", "v"]) + parts


def seat(dice: Dice) -> str:
    return f"{dice.between(1, 60)}{dice.pick('ABCDEF')}"


def group_name(dice: Dice) -> str:
    return dice.pick([dice.title, dice.title, dice.word, dice.invented])()


def exact_date(dice: Dice) -> str:
    while not (date := dice.date())[-1].isdigit():
        pass
    return date


def shelf(dice: Dice) -> str:
    return f"{dice.pick('ABCDEFGHJK')}{dice.between(1, 40)}-{dice.between(1, 9)}"


def square(dice: Dice) -> str:
    return f"{dice.pick('abcdefgh')}{dice.between(1, 8)}"


def page_range(dice: Dice) -> str:
    first = dice.between(1, 80)
    return f"{first}-{first + dice.between(1, 20)}"


def ip_address(dice: Dice) -> str:
    return ".".join(str(dice.between(1, 254)) for _ in range(4))


def equation(dice: Dice) -> str:
    a, b, c = (dice.between(2, 90) for _ in range(3))
    sign = dice.pick("+-")
    spaced = dice.pick(["{}x {} {} = {}", "{}x{}{}={}"])
    return spaced.format(a, sign, b, c)


def degree(dice: Dice) -> float:
    return round(dice.random.random() * 89, dice.pick([1, 2, 4]))


def known_or_new(*known: str) -> Maker:
    """One of those, or an invented word in its place."""
    return lambda dice: dice.pick(known) if dice.chance(0.7) else dice.invented()


def file_of(*endings: str) -> Maker:
    return lambda dice: dice.file_name(*endings)


CURRENCY = ["USD", "EUR", "GBP", "JPY", "CHF", "SEK", "PLN", "INR"]
UNITS = ["miles", "kilometers", "meters", "feet", "inches", "pounds", "kilograms", "liters"]
CUISINES = ["Italian", "Thai", "Indian", "Mexican", "Greek", "French", "vegan", "Turkish"]

# The slots of everyday functions, by the names that the files of functions have for them.
SLOTS: dict[str, Slot] = {
    "account": text("account|account_id|account_number|iban", Dice.code),
    "address": text("address|street", street),
    "airline": text("airline|carrier|company", short_name),
    "alert": text("alert|alert_id|incident", Dice.code),
    "allergen": text("allergen|ingredient", known_or_new("nuts", "milk", "gluten", "eggs", "soy")),
    "amount": number("amount|value|sum", money),
    "angle": whole("angle|degrees", 5, 355),
    "animal": text("animals|herd", known_or_new("cows", "pigs", "goats", "hens", "sheep", "ducks")),
    "animal_id": text("animal_id|tag|ear_tag|animal", Dice.code),
    "app": text("app|program|application|software", short_name),
    "appointment": text("appointment|appointment_id", Dice.code),
    "archive": text("archive|file|zip_file", file_of("zip", "tar", "rar")),
    "article": text("article|headline|story", some_words),
    "artist": text("artist|singer|band", Dice.name),
    "audience": text("audience|list", known_or_new("customers", "members", "parents", "fans")),
    "audio": text("audio|recording|file", file_of("mp3", "wav", "ogg")),
    "bags": whole("bags|count|pieces", 2, 9),
    "barcode": text("barcode|code|ean", lambda dice: dice.digits(8, 13)),
    "beach": text("beach", Dice.title),
    "bed": text("bed|bed_number", lambda dice: f"{dice.between(1, 60)}{dice.pick('ABC')}"),
    "blood": choice(
        "blood_type|blood_group|type", ["A+", "A-", "B+", "B-", "AB+", "AB-", "O+", "O-"]
    ),
    "body": text("text|message|body|content", some_text),
    "body_part": text("body_part|place|injury", known_or_new("knee", "ankle", "shoulder", "back")),
    "booking": text("booking|booking_id|reservation|booking_number", Dice.code),
    "bpm": whole("bpm|tempo|beats", 40, 220),
    "branch": text("branch|branch_name|ref", service),
    "breed_count": whole("young|count|newborn", 2, 14),
    "card": text("card_number", Dice.code),
    "category": text("category", Dice.word),
    "centimeters": whole("centimeters|distance|cm", 2, 300),
    "certificate": text("certificate|kind|type", known_or_new("birth", "marriage", "death")),
    "channel": text("channel|station|channel_name", group_name),
    "chemical": text("chemical|substance|reagent", known_or_new("ethanol", "acetone", "ammonia")),
    "city": text("city|location|place|town", Dice.city),
    "code_file": text("file|path|source_file", file_of("py", "js", "java", "rs")),
    "coin": text("coin|crypto|currency", known_or_new("bitcoin", "ether", "litecoin")),
    "color": text("color|colour|shade", known_or_new("red", "blue", "green", "purple", "orange")),
    "column": text("column|column_name|header", Dice.word),
    "commit": text("commit|sha|revision", Dice.hexadecimal),
    "company": text("company|supplier|firm|organization", Dice.title),
    "consumption": number("consumption|per_hundred", lambda dice: dice.between(30, 150) / 10),
    "container": text("container|container_name|image", service),
    "contract": text("contract|contract_id|agreement", Dice.code),
    "coop": text("coop|house|stable", group_name),
    "count": whole("count|quantity|amount|number", 2, 60),
    "country": text("country", country),
    "coupon": text("coupon|code|voucher|coupon_code", Dice.code),
    "course": text("course|subject|class", known_or_new("math", "history", "music", "art")),
    "court": whole("court|court_number", 2, 20),
    "craft": text("trade|craft|kind", known_or_new("plumber", "painter", "electrician", "roofer")),
    "crop": text("crop|plant|product", known_or_new("wheat", "corn", "rice", "beans", "barley")),
    "cuisine": text("cuisine|kind|food", lambda dice: dice.pick([*CUISINES, dice.title()])),
    "cups": whole("cups|count|servings", 1, 12),
    "customer_id": text("customer_id", Dice.code),
    "database": text("database|db|name", service),
    "date": text("date|day|when", Dice.date),
    "days": whole("days|duration|length", 2, 30),
    "deal": text("deal|deal_id|opportunity", Dice.code),
    "degrees": whole("degrees|temperature", 5, 35),
    "destination": text("destination|to|end|to_city|arrival|drop_off", Dice.city),
    "difficulty": choice("difficulty|level", ["easy", "medium", "hard"]),
    "direction": choice("direction", ["forward", "backward", "left", "right"]),
    "dock": whole("dock|ramp|bay", 2, 40),
    "doctor": text("doctor|physician|doctor_name", Dice.title),
    "domain": text("domain|domain_name|host", Dice.domain),
    "door": choice("state|position|door", ["open", "closed"]),
    "element": text(
        "element|symbol|name", known_or_new("iron", "gold", "helium", "carbon", "neon")
    ),
    "email": text("email|to|recipient|address", Dice.email),
    "encoding": choice("encoding|code", ["base64", "hex", "morse"]),
    "environment": text(
        "environment|env|stage|target",
        lambda dice: dice.pick(["production", "staging", "test", dice.invented()]),
    ),
    "equation": text("equation|expression|formula", equation),
    "error_code": text("code|error|error_code", Dice.code),
    "exact_date": text("date|day", exact_date),
    "exhibit": text("exhibit|artwork|object|piece", Dice.title),
    "fan_level": whole("level|speed|fan_speed", 1, 9),
    "fever": number("temperature|degrees|reading", lambda dice: dice.between(355, 415) / 10),
    "field": text("field|plot|acre", group_name),
    "file": text("file|path|filename|name", Dice.file_name),
    "files": listing("files|documents|paths", Dice.file_name),
    "first": number("a|x|first|left", Dice.number),
    "first_day": text("start|start_date|from_date", exact_date),
    "first_name": text("first_name|name", lambda dice: dice.name().split()[0]),
    "flag": text("flag|feature|key", service),
    "flight": text("flight_number", Dice.code),
    "folder": text("folder|path|directory", Dice.folder),
    "food": text("food|dish|meal", some_words),
    "form": text("form|form_number|form_id", Dice.code),
    "format": text("format|target_format|type", known_or_new("pdf", "csv", "png", "html", "txt")),
    "frequency": choice("frequency|interval|rhythm", ["daily", "weekly", "monthly"]),
    "fuel": text("fuel|fuel_type|kind", known_or_new("diesel", "petrol", "gasoline", "gas")),
    "game": text("game|game_name", known_or_new("chess", "poker", "tetris", "go", "checkers")),
    "genre": text("genre|kind|category", known_or_new("crime", "comedy", "drama", "horror")),
    "gift_card": text("gift_card|card|code", Dice.code),
    "grade": text("grade|mark", lambda dice: dice.pick("ABCDEF") + dice.pick(["", "+", "-"])),
    "grams": whole("grams", 10, 500),
    "guests": whole("guests|people|party_size", 2, 12),
    "hall": text("hall|wing|gallery", group_name),
    "heat": whole("temperature|degrees|heat", 80, 260),
    "height": whole("height|height_cm", 140, 210),
    "hex": text("hex|color|code", lambda dice: f"#{dice.hexadecimal()[:4]}{dice.digits(2, 2)}"),
    "highest": whole("max|highest|limit|upper", 5, 1000),
    "hive": text("hive|hive_id|colony", Dice.code),
    "hotel_room": text("room|room_number", lambda dice: str(dice.between(1, 2000))),
    "hours": whole("hours", 2, 12),
    "image": text("image|picture|photo|file", file_of("png", "jpg", "gif")),
    "instrument": text("instrument", known_or_new("guitar", "violin", "piano", "flute", "trumpet")),
    "interest": number("rate|interest|interest_rate", lambda dice: dice.between(1, 99) / 10),
    "invoice": text("invoice|invoice_id|bill|number", Dice.code),
    "ip": text("ip|ip_address|address", ip_address),
    "is_paid": truth("paid|is_paid"),
    "is_public": truth("public|is_public"),
    "isbn": text("isbn|book|number", lambda dice: dice.digits(9, 13)),
    "issue": text(
        "issue|cause|kind|problem", known_or_new("fire", "leak", "flood", "hole", "crash")
    ),
    "issue_number": whole("issue|issue_number|number", 2, 9000),
    "item": text("item|product|article|thing", some_words),
    "job": text("job|position|job_title|role", lambda dice: dice.pick(words.JOBS)),
    "kilometers": whole("kilometers|distance|km|max_length", 3, 900),
    "lab_test": text("test|analysis|lab_test", known_or_new("blood", "urine", "liver", "thyroid")),
    "label": text("label|tag|marker", Dice.word),
    "labels": listing("labels|tags|keywords", Dice.word),
    "lake": text("lake|water|place", Dice.title),
    "language": text("language|target_language", lambda dice: dice.pick(words.LANGUAGES)),
    "last_day": text("end|end_date|to_date", exact_date),
    "latitude": number("latitude|lat", degree),
    "league": text("league|competition", group_name),
    "legal_field": text("field|area|field_of_law", known_or_new("tax", "family", "labor", "crime")),
    "length": whole("length|size|characters", 6, 64),
    "letter": text("letter|first_letter|initial", lambda dice: dice.pick("ABCDEFGHIJKLMNOPRSTUVW")),
    "line": text("line|route", Dice.code),
    "liters": whole("liters|litres|volume", 2, 90),
    "load": whole("kilograms|weight|amount|quantity", 2, 900),
    "long_side": number("length|a|long_side", Dice.decimal),
    "longitude": number("longitude|lon|lng", degree),
    "lower": whole("diastolic|lower|low", 50, 110),
    "machine": text("machine|machine_id|equipment|unit", service),
    "magnitude": number("magnitude|min_magnitude|at_least", lambda dice: dice.between(10, 90) / 10),
    "meal": choice("meal|meal_type|menu", ["vegetarian", "vegan", "kosher", "halal"]),
    "medicine": text("medicine|drug|medication|pill", short_name),
    "meeting_room": text("room|room_name|meeting_room", group_name),
    "metric": text(
        "metric|metric_name|measure", known_or_new("latency", "load", "memory", "errors")
    ),
    "minutes": whole("minutes|duration", 2, 90),
    "mode": choice("mode|state", ["away", "home", "night"]),
    "moment": text("time|at|moment|hour", Dice.time),
    "money_from": text("from_currency|source|base", lambda dice: dice.pick(CURRENCY)),
    "money_to": text("to_currency|target", lambda dice: dice.pick(CURRENCY)),
    "monster": text("monster|enemy|target", known_or_new("dragon", "troll", "wolf", "witch")),
    "month": text("month", lambda dice: dice.pick(words.MONTHS)),
    "museum": text("museum|house|borrower", Dice.title),
    "network": text("network|platform|site", short_name),
    "new_column": text("new_name|new_column", Dice.word),
    "new_name": text("new_name|target|to", Dice.file_name),
    "new_value": text("value|new_value|content", Dice.word),
    "nights": whole("nights|duration", 2, 14),
    "option": text("option|choice|answer", group_name),
    "order": text("order_id|order_number|order", Dice.code),
    "origin": text("origin|from|start|from_city|departure|pick_up", Dice.city),
    "other_file": text("other|second_file|with_file", file_of("py", "js", "java", "rs")),
    "other_medicine": text("other|second_drug|other_medicine", short_name),
    "other_person": text("other|colleague|second_person", Dice.name),
    "other_player": text("replacement|substitute|player_in", Dice.name),
    "other_shelf": text("target|to_shelf|new_shelf", shelf),
    "other_team": text("opponent|other_team|away_team", group_name),
    "page_range": text("pages|page_range|range", page_range),
    "passengers": whole("passengers|people|persons|count", 2, 12),
    "patient": text("patient|patient_name", Dice.name),
    "pdf_first": text("first|file_a|first_file", file_of("pdf")),
    "pdf_second": text("second|file_b|second_file", file_of("pdf")),
    "people": listing("people|names|attendees|members", Dice.name),
    "percent": whole("percent|level|percentage", 1, 100),
    "permit": text("permit|permit_number|application", Dice.code),
    "person": text("name|person|user|customer|contact|full_name", Dice.name),
    "pet": text("pet|pet_name|name", Dice.title),
    "phone": text("phone|phone_number|number", Dice.phone),
    "pid": whole("pid|process|process_id", 10, 99_999),
    "pixel_height": whole("height|height_px", 20, 4000),
    "pixel_width": whole("width|width_px", 20, 4000),
    "plate": text("plate|vehicle|car|license_plate", plate),
    "player": text("player|athlete|player_name", Dice.name),
    "playlist": text("playlist|playlist_name|list", group_name),
    "podcast": text("podcast|show|series", Dice.title),
    "policy": text("policy|policy_number|insurance", Dice.code),
    "poll": text("poll|poll_id|survey", Dice.code),
    "port": whole("port|port_number", 20, 65_000),
    "position": text("position|role", known_or_new("goalkeeper", "defender", "striker", "winger")),
    "price": number("max_price|price|limit", money),
    "priority": choice("priority|severity", ["low", "medium", "high"]),
    "products": listing("products|items|articles", Dice.word),
    "programme": text("programme", Dice.word),
    "project": text("project|project_name|project_id", group_name),
    "pull": whole("pull_request|pr|number", 2, 9000),
    "pupil": text("pupil|learner|child", Dice.name),
    "purchase": text("purchase|purchase_order|po_number", Dice.code),
    "query": text("query|q|search|keywords", lambda dice: dice.phrase(1, 4)),
    "quest": text("quest|mission|task", group_name),
    "question": text("question|text|prompt", lambda dice: dice.phrase(2, 5)),
    "receipt": text("receipt|receipt_number", Dice.code),
    "recipient": text("recipient", Dice.name),
    "register": whole("register|till|counter", 2, 20),
    "repository": text("repository|repo|project", service),
    "resort": text("resort|place|location", Dice.title),
    "restaurant": text("restaurant|place", Dice.title),
    "river": text("river|stream|water", Dice.title),
    "role": text("role|permission", known_or_new("admin", "editor", "owner", "auditor")),
    "room": text("room|zone", room),
    "room_type": choice("room_type|category|kind", ["single", "double", "suite"]),
    "sample": text("sample|sample_id|specimen", Dice.code),
    "scene": text("scene|scene_name|mood", known_or_new("movie", "dinner", "party", "reading")),
    "school_class": text("class|group", lambda dice: f"{dice.between(1, 12)}{dice.pick('abcd')}"),
    "score": text("score|result", lambda dice: f"{dice.between(0, 9)}:{dice.between(0, 9)}"),
    "script": text("script|command|job", file_of("sh", "py", "rb")),
    "seat": text("seat|seat_number|place", seat),
    "second": number("b|y|second|right", Dice.number),
    "section": text(
        "section|department|desk", known_or_new("politics", "culture", "sports", "money")
    ),
    "seminar": text("seminar", Dice.title),
    "semitones": whole("semitones|steps|half_steps", 2, 11),
    "sensor": text("sensor|sensor_id|name", Dice.code),
    "sentences": whole("sentences|length|max_sentences", 2, 12),
    "serial": text("serial_number", Dice.code),
    "service": text("service|name|host|server", service),
    "shelf": text("shelf|bin|from_shelf|location", shelf),
    "shift": choice("shift|shift_type", ["early", "late", "night"]),
    "shipment": text("shipment|shipment_id|delivery_note", Dice.code),
    "short_side": number("width|b|short_side", Dice.decimal),
    "sides": whole("sides|faces", 4, 100),
    "sign": text("sign", Dice.word),
    "size": choice("size", ["small", "medium", "large"]),
    "slot": whole("slot|position", 1, 9),
    "sorting": choice("order|direction|sorting", ["ascending", "descending"]),
    "specialty": text(
        "specialty|field|kind", known_or_new("dentist", "surgeon", "oculist", "skin doctor")
    ),
    "species": text("species|animal|kind", known_or_new("dog", "cat", "rabbit", "parrot", "horse")),
    "spell": text("spell|magic|charm", short_name),
    "sport": text("sport|activity|exercise", known_or_new("running", "yoga", "rowing", "swimming")),
    "square": text("square|from_square|start", square),
    "square_meters": whole("square_meters|area|size", 4, 900),
    "square_to": text("to_square|goal|end", square),
    "stage": choice("stage|status", ["open", "won", "lost"]),
    "stars": whole("stars|rating|score", 2, 10),
    "station": text("station", Dice.title),
    "street": text("street", street),
    "student": text("student", Dice.name),
    "switch": choice("state|power", ["on", "off"]),
    "symbol": text("symbol|ticker", ticker),
    "table": whole("table|table_number", 2, 60),
    "team": text("team|team_name|club|group", group_name),
    "ticket": text("ticket|ticket_number|fine", Dice.code),
    "time": text("time|at|start_time|hour", Dice.time),
    "timezone": text("city|location|timezone", Dice.city),
    "title": text("title|subject|topic|name", some_words),
    "topic": text("topic|subject|about", Dice.topic),
    "tracking": text("tracking_number", Dice.code),
    "train": text(
        "train|train_number", lambda dice: f"{dice.pick(['IC', 'RE', 'S'])}{dice.digits(1, 4)}"
    ),
    "transaction": text("transaction|transaction_id|booking", Dice.code),
    "translation": text("translation|meaning|back", Dice.word),
    "unit_from": text("from_unit|unit|source_unit", lambda dice: dice.pick(UNITS)),
    "unit_to": text("to_unit|target_unit", lambda dice: dice.pick(UNITS)),
    "upper": whole("systolic|upper|high", 90, 200),
    "url": text("url|link|website|page", Dice.url),
    "vaccine": text("vaccine|vaccination", known_or_new("flu", "measles", "tetanus", "polio")),
    "value": number("value|reading|measurement", Dice.decimal),
    "variable": text("variable|key|setting", lambda dice: dice.invented().upper()),
    "venue": text("venue|place|name", Dice.title),
    "version": text("version|release|tag", version),
    "visibility": choice("visibility|access", ["private", "public"]),
    "ward": text("ward|unit|department", known_or_new("surgery", "maternity", "cardiology")),
    "waste": text("waste|kind|type", known_or_new("paper", "glass", "plastic", "garden")),
    "weeks": whole("weeks|duration", 2, 20),
    "weight": whole("weight|weight_kg", 40, 140),
    "word": text("word|term", Dice.word),
    "year": whole("year|season", 1900, 2030),
    "years": whole("years|duration|term", 2, 30),
    "zone": text("zone", room),
}

# What everyday functions have as a further parameter, now and then.
UNIT = choice("unit|units", ["celsius", "fahrenheit"], "in {}")
UNIT_CAPITAL = choice("unit", ["Celsius", "Fahrenheit"], "in {}")
FORMAT = choice("format", ["short", "long"], ", {} format| in {} format")
LIMIT = whole("limit|max_results|count", 1, 20, ", at most {} of them")

# What made-up functions take. Which one is meant follows from the words around the value.
ROLES: tuple[Slot, ...] = (
    text("recipient|to|receiver|addressee", Dice.name, "to {}|for {}"),
    text("recipient|to|email|send_to", Dice.email, "to {}|for {}|with email {}"),
    text("owner|author|creator|manager|artist", Dice.name, "by {}|of {}|from {}"),
    text("assignee|responsible|agent", Dice.name, "to {}|assigned to {}"),
    text("name|person|user|customer|client|employee", Dice.name, "for {}|named {}|of {}"),
    text("city|location|place|town|region|site", Dice.city, "in {}|at {}|near {}|for {}"),
    text("address|street|house", street, "at {}|near {}|to {}|of {}"),
    text("origin|source|from", Dice.city, "from {}|starting in {}"),
    text("destination|target|to", Dice.city, "to {}|ending in {}"),
    text("room|zone|area|shelf", room, "in the {}|for the {}"),
    text("date|day|when|on", Dice.date, "on {}|for {}"),
    text("due_date|deadline|until|end_date", Dice.date, "until {}|by {}|due {}"),
    text("start_date|from_date|since|begin", Dice.date, "from {}|starting {}|since {}"),
    text("time|at|hour", Dice.time, "at {}"),
    text("title|name|label|subject", some_words, "called {}|named {}|titled {}"),
    text("topic|query|keyword|subject|term", Dice.topic, "about {}|on {}"),
    text("text|message|note|comment|content", some_text, "saying {}|with the text {}|: {}"),
    text("reason|cause|explanation", some_text, "because of {}|the reason is {}"),
    text("status|state|phase", Dice.word, "as {}|to {}|with status {}"),
    text("category|type|kind|tag|group", Dice.word, "of type {}|in the category {}|as {}"),
    text("color|material|style", Dice.word, "in {}|made of {}"),
    text("language|locale", lambda dice: dice.pick(words.LANGUAGES), "in {}|into {}"),
    text("url|link|website", Dice.url, "at {}|from {}|with the link {}"),
    text("file|path|document", Dice.file_name, "from {}|to {}|in {}"),
    text("phone|phone_number|mobile", Dice.phone, "at {}|with the phone number {}"),
    whole("count|quantity|copies|pieces", 2, 500, "{} times|with {} pieces|a quantity of {}"),
    whole("limit|max_results|top|page_size", 1, 50, "at most {}|no more than {}|limited to {}"),
    whole("level|percent|volume|brightness|speed", 1, 100, "to {}|at {}|to {} percent|at {}%"),
    whole("minutes|hours|days|duration|timeout", 1, 90, "for {} {label}|lasting {} {label}"),
    whole("year|version|page|floor|size", 1, 2030, "{label} {}|of {label} {}|on {label} {}"),
    number("price|cost|amount|budget|total", money, "for {} dollars|at a price of {}|worth {}"),
    number("weight|length|width|distance", Dice.decimal, "with a {label} of {}|{label} {}"),
    Slot(("urgent", "active", "public"), {"type": "boolean"}, lambda dice: dice.chance(0.5)),
    Slot(
        ("tags", "items", "names", "members"),
        {"type": "array", "items": {"type": "string"}},
        several,
        ("with {label} {}", "{label} {}"),
    ),
)
ANYTHING = text("value", firm_value)  # under a name that says nothing of it
IDENTITY = text(  # of the very thing that the function is about
    "id|number|code|reference|key|identifier",
    Dice.code,
    "{}|{}|number {}|with the id {}|#{}|no. {}|id {}",
)
NAMED = text("name|title", short_name, "{}|{}|called {}|named {}")
EVERY_WAY = (  # of mentioning any parameter
    "with {label} {}",
    "with the {label} {}",
    "with {label} set to {}",
    "{label} {}",
    "using {} as {label}",
    "with {} as the {label}",
)


def made_up_choice(dice: Dice) -> Slot:
    """A parameter with a list of values to choose from."""
    maker = dice.pick([dice.word, dice.word, dice.invented])
    options = list(dict.fromkeys(maker() for _ in range(dice.between(2, 4))))
    return choice(
        "mode|kind|variant|option|plan|size|style", options, "in {} {label}|as {}|{} {label}"
    )
