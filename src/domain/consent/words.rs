//! The words of refusal and return, as lists that people can read: without accents, in lower case.
//!
//! Words only; how they are looked for is `consent`'s affair.

use std::{collections::HashSet, sync::LazyLock};

pub(super) type Words = LazyLock<HashSet<&'static str>>;
pub(super) type Phrases = LazyLock<Vec<String>>;

/// Phrases stand between commas, however the lines break.
fn phrases(text: &str) -> Vec<String> {
    text.split(',').map(|phrase| phrase.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The words of T25, and the forms in which people write them; without accents and spaces, in lower case.
pub(super) static STOP: Words = LazyLock::new(|| STOP_TEXT.split_whitespace().collect());
const STOP_TEXT: &str = "\
    stop arret stopall unsubscribe cancel end quit revoke optout desabo desabonnement remove stopsms smsstop
    stopmms stoppub pubstop stopmail stopmails stopemail stopemails stopmessage stopmessages unsub desabonner
    medesabonner desabonnezmoi desinscription desinscrire medesinscrire desinscrivezmoi optouts stopstop
    stopstopstop stopau stopwhatsapp stoptelegram stoptout toutstop toutarreter arretsms stopspam";

/// What takes a refusal back.
pub(super) static START: Words = LazyLock::new(|| START_TEXT.split_whitespace().collect());
const START_TEXT: &str = "\
    start unstop restart resubscribe optin reprendre reprise reabonnement reabonner reabonnezmoi mereabonner
    reinscription reinscrire reinscrivezmoi startsms subscribe destop annulerstop annulestop";

/// Words that ask for an end and have other senses too: they count beside nothing but `FILLERS`.
pub(super) static ENDING: Words = LazyLock::new(|| ENDING_TEXT.split_whitespace().collect());
const ENDING_TEXT: &str = "\
    stop stops stopp stope stopper stoppez stoper stopez stopall stoped stopped stopping arret arrets arrete
    arretes arretez arreter aret aretez cesser cessez cesse opposition st0p sotp stpo satop tsop optout optouts";

/// Words that end something only where nothing but politeness stands beside them.
pub(super) static ENDING_POLITELY: Words =
    LazyLock::new(|| ENDING_POLITELY_TEXT.split_whitespace().collect());
const ENDING_POLITELY_TEXT: &str = "\
    cancel end quit revoke remove";

pub(super) static POLITENESS: Words = LazyLock::new(|| POLITENESS_TEXT.split_whitespace().collect());
const POLITENESS_TEXT: &str = "\
    please pls plz plse svp stp s il te vous plait merci thanks thank you thx ty now maintenant immediatement
    immediately bonjour bonsoir hello hi hey dear monsieur madame sir cordialement regards ok d avance bien tout
    de suite urgent beaucoup bonne journee soiree u already deja immediat immediate vraiment really";

/// What stands beside an ending without giving it another sense.
pub(super) static FILLERS: Words = LazyLock::new(|| FILLERS_TEXT.split_whitespace().collect());
const FILLERS_TEXT: &str = "\
    ca cela c est it this that these those les le la vos votre ces ce cette des du l your the all tous toutes
    toute sms mms texto textos texte textes text texts message messages msg msgs mail mails email emails e pub
    pubs publicite publicites promo promos promotion promotions spam spams spamming notification notifications
    notif notifs newsletter newsletters whatsapp telegram rappel rappels envoi envois envoyer offre offres
    alerte alertes marketing ads ad moi me m je j i we on nous ai dit dis say said veux voudrais souhaite want
    would like to faut fois encore again once more assez enough too much trop marre non no oui yes et and or ou
    a au aux just juste simply bon eh allez un une pour for definitif definitivement forever toujours number
    numero mon my sur from with avec tt here ici demande request requete fin desabonnement unsubscribe
    desinscription abonnement subscription liste list contact contacts dire que sends sending send texting
    messaging contacting calling fucking putain merde bordel harcelement harceler harassing maintenent there
    guys donc alors";

/// Beginnings of words that mean nothing else.
pub(super) static PLAIN_STEMS: LazyLock<Vec<&str>> =
    LazyLock::new(|| PLAIN_STEMS_TEXT.split_whitespace().collect());
const PLAIN_STEMS_TEXT: &str = "\
    unregist desabo desinscri unsubscri unsuscri unsubcri unsubsri desincri desinscip desabbon dessabon dezabon stopall";

/// Sequences of words that ask for an end wherever they stand.
pub(super) static PHRASES: Phrases = LazyLock::new(|| phrases(PHRASES_TEXT));
const PHRASES_TEXT: &str = "\
    opt out, opt me out, opting out, stop sms, stop pub, stop spam, stop text, stop texts, stop texting, stop
    messaging, stop sending, stop contacting, stop calling, stop spamming, stop messages, stop message, stop
    mail, stop mails, stop email, stop emails, stop emailing, stop harassing, stop all messages, stop all texts,
    stop all sms, stop the messages, stop the texts, stop these, stop your, stop aux, stop a vos, stop aux sms,
    stop bothering, stop writing, stop it now, remove me, take me off, take my number, remove my number, delete
    my number, delete me, delete my data, leave me alone, do not contact, don t contact, dont contact, do not
    text, don t text, dont text, do not message, don t message, dont message, don t send me, dont send me, do
    not email, don t email, no more texts, no more sms, no more messages, no more emails, no more mails, no more
    ads, not receive any more, longer wish to receive, longer want to receive, longer want your, don t want to
    receive, do not want to receive, dont want to receive, don t want your, don t want these, don t want any
    more, dont want any more, not interested stop, lose my number, revoke my consent, withdraw my consent,
    revoke consent, withdraw consent, never contact, never text, never write to me, quit texting, quit
    messaging, quit sending, quit spamming, cease and desist, cease sending, cease contacting, ne plus recevoir,
    ne plus etre contacte, ne plus etre contactee, ne plus etre sollicite, ne plus etre derange, ne plus m
    envoyer, ne plus me contacter, ne plus m ecrire, ne plus me solliciter, ne plus me deranger, plus recevoir
    de, plus recevoir vos, plus recevoir ces, plus recevoir aucun, m envoyez plus, m envoyer plus, m envoie
    plus, me contactez plus, me contacter plus, me contacte plus, m ecrivez plus, m ecris plus, me sollicitez
    plus, me derangez plus, me spammez plus, m appelez plus, me textez plus, veux plus recevoir, veux plus vos,
    veux plus rien recevoir, souhaite plus recevoir, souhaite plus etre, veux plus etre contacte, veux plus etre
    contactee, desire plus etre, souhaite plus vos, desire plus recevoir, voudrais plus recevoir, plus de sms,
    plus de message, plus de messages, plus de mail, plus de mails, plus de pub, plus de pubs, plus de
    publicite, plus de texto, plus de textos, plus d emails, plus d email, plus aucun message, plus aucun sms,
    plus aucun mail, retirez moi, retirer moi, me retirer, retirez mon numero, retirer mon numero, supprimez
    moi, supprimez mon, supprimer mon numero, me supprimer, enlevez moi, enlevez mon, m enlever, rayez moi,
    effacez mon, effacez moi, sortez moi, otez moi, laissez moi tranquille, laisse moi tranquille, foutez moi la
    paix, fichez moi la paix, cessez de m, cessez de me, cessez vos, cessez ces, cessez les, cessez tout,
    arretez de m, arretez de me, arrete de m, arrete de me, arreter de m, arreter de me, arretez vos, arretez
    les, arretez ces, arretez avec, arretez tout, arretez les sms, arreter les sms, arreter les messages,
    arreter les envois, arreter les mails, arreter les notifications, arreter vos, arreter ces, arreter de
    recevoir, arret des sms, arret des messages, arret des envois, arret des mails, arret de vos, arret sms,
    retire mon consentement, retire mon accord, revoque mon consentement, mon opposition, droit d opposition,
    liste noire, bloctel, assez de vos, marre de vos, marre de recevoir, stop definitif, stoppez les, stoppez
    vos, stoppez ces, stopper les, stopper vos, stopper ces, stoppez de m, stopper de m, stop de m, me desabo,
    veux plus ces, veux plus etre sollicite, veux plus etre derange, souhaite plus ces, souhaite plus etre
    contacte, souhaite plus etre contactee, souhaite plus etre sollicite, souhaite plus etre derange, desire
    plus vos, desire plus ces, desire plus etre contacte, desire plus etre contactee, desire plus etre
    sollicite, desire plus etre derange, voudrais plus vos, voudrais plus ces, voudrais plus etre contacte,
    voudrais plus etre contactee, voudrais plus etre sollicite, voudrais plus etre derange, do not send me, don
    t send any, do not write to me, don t write to me, dont write to me, leave me off, off this list, off your
    list, from your list, from this list, from list, pas me recontacter, me recontactez pas, me recontactez
    plus, plus me recontacter, me contactez pas, pas me contacter, m ecrivez pas, m envoyez pas de, refuse de
    recevoir, refuse vos, refuse ces, refuse la publicite, pas de sms, pas de pub, pas de publicite, no spam, no
    sms, don t spam, dont spam, end sms, end messages, end texts, cancel sms, cancel messages, cancel texts,
    cancel alerts, cancel notifications, cancel subscription, annuler les sms, annuler les messages, annuler les
    notifications, annulez les sms, quit list, go away, fuck off, piss off, arretez de spammer, arrete de
    spammer, arretez de nous, arretez de harceler, desactivez les notifications, desactiver les notifications,
    desactivez les sms, supprimez mes donnees, supprimer mes donnees, suppression de mes donnees, effacez mes
    donnees, stop msging, stop prospection, stop demarchage, stop pubs, stop alertes, plus me contacter, plus
    etre contacte, plus de vos, m oppose a vos, m oppose a recevoir, m oppose a l envoi, m oppose a la
    prospection, m oppose a la reception, m oppose a l utilisation, m oppose au traitement";

/// What turns an ending into its contrary.
pub(super) static NEGATIONS: Phrases = LazyLock::new(|| phrases(NEGATIONS_TEXT));
const NEGATIONS_TEXT: &str = "\
    ne pas stop, pas stop, don t stop, dont stop, do not stop, never stop, not stop, won t stop, pas arret, n
    arret, pas m arret, jamais stop, jamais arret, sans arret, pas desabon, me desabonnez pas, desabonnez pas,
    pas me desabon, pas desinscri, desinscrivez pas, don t unsub, dont unsub, do not unsub, not unsub, pas cess,
    don t cease, don t cancel, do not cancel, ne cess, don t remove me, do not remove me, me retirez pas, me
    supprimez pas, not want to unsub, rather not stop, don t want to stop, pas du tout stop, nonstop, pas de
    stop, no need to stop, pas un stop, don t opt me out, do not opt, don t opt, not opt out, ne stop, n envoyez
    pas stop, can t stop, couldn t stop, cannot stop, don t quit, unstoppable, ne m enlevez pas, ne me rayez
    pas, contact me before, call me before, text me before, write before, contactez pas avant, ecrivez pas
    avant, recois plus, recoit plus, receive any longer, don t want to unsub, dont want to unsub";

/// What a "stop" at the beginning is about when one of these follows: a place, a visit.
pub(super) static AFTER_A_PLAIN_STOP: Words =
    LazyLock::new(|| AFTER_A_PLAIN_STOP_TEXT.split_whitespace().collect());
const AFTER_A_PLAIN_STOP_TEXT: &str = "\
    by at in over off au a sign signs light lights near on for here there et puis then before after next number
    watch motion gap loss";

/// What a "stop" at the end is when one of these comes before: a place, a road sign.
pub(super) static BEFORE_A_PLAIN_STOP: Words =
    LazyLock::new(|| BEFORE_A_PLAIN_STOP_TEXT.split_whitespace().collect());
const BEFORE_A_PLAIN_STOP_TEXT: &str = "\
    non bus tram metro train full pit rest next last first second every each one the a an this that which what my your
    our boulevard bd avenue av rue place panneau le la un du au prochain dernier premier chaque quel auto taxi school
    to will can could should must would cannot never not without hop short quick i we they it you doesn didn won
    ne pas";
